//! `ems get` and `ems delete`: records by kind and name.

use anyhow::{Context, Result, bail};
use isthmus_proto::v1::{self, EndpointRef, ListRequest, RegionRef, ServiceRef};

use super::{
    client::{Client, Server},
    document::{self, Record},
    rejections,
    table::table,
};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Named destinations and their policy
    #[value(alias = "service")]
    Services,
    /// Addresses of services; named SERVICE or SERVICE/ID
    #[value(alias = "endpoint")]
    Endpoints,
    /// Regions and their gateways
    #[value(alias = "region")]
    Regions,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// For people
    #[default]
    Table,
    /// Documents that `ems apply -f -` takes, also that of another region
    Yaml,
    /// Everything that the server says
    Json,
}

/// Arguments of `ems get`.
#[derive(Debug, clap::Args)]
pub(super) struct Get {
    /// What to list
    kind: Kind,
    /// Only this one; for endpoints SERVICE or SERVICE/ID
    name: Option<String>,
    /// How to print it
    #[arg(short, long, default_value = "table")]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// Arguments of `ems delete`.
#[derive(Debug, clap::Args)]
pub(super) struct Delete {
    /// What to delete; a service goes with its endpoints
    kind: Kind,
    /// Names; those of endpoints are SERVICE/ID
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    server: Server,
}

/// Prints records.
pub(super) fn get(args: &Get) -> Result<String> {
    let name = args.name.as_deref();
    let records = args.server.run(|mut client| async move {
        match args.kind {
            Kind::Services => client.services(name).await,
            Kind::Endpoints => client.endpoints(name).await,
            Kind::Regions => client.regions(name).await,
        }
    })?;
    match args.output {
        Output::Table => Ok(match args.kind {
            Kind::Services => services_table(&records),
            Kind::Endpoints => endpoints_table(&records),
            Kind::Regions => regions_table(&records),
        } + &rejected(&records)),
        Output::Yaml => {
            let documents = records.iter().map(document::to_yaml);
            Ok(documents.collect::<Result<Vec<_>>>()?.join("---\n"))
        }
        Output::Json => {
            let documents = records.iter().map(document::to_json);
            let documents = documents.collect::<Result<Vec<_>>>()?;
            let text = match (documents.as_slice(), name) {
                ([one], Some(_)) => serde_json::to_string_pretty(one),
                _ => serde_json::to_string_pretty(&documents),
            };
            Ok(text? + "\n")
        }
    }
}

/// Deletes records and says of each that it is gone.
pub(super) fn delete(args: &Delete, mut say: impl FnMut(&str) -> Result<()>) -> Result<()> {
    args.server.run(|mut client| async move {
        for name in &args.names {
            let title = client.delete(args.kind, name).await?;
            say(&format!("{title} deleted\n"))?;
        }
        Ok(())
    })
}

impl Client {
    async fn services(&mut self, name: Option<&str>) -> Result<Vec<Record>> {
        let found = match name {
            Some(name) => {
                let service = name.to_owned();
                let found = self.registry.get_service(ServiceRef { service }).await;
                found.map(|found| vec![found.into_inner()])
            }
            None => {
                let found = self.registry.list_services(ListRequest {}).await;
                found.map(|found| found.into_inner().services)
            }
        };
        let found = found.map_err(|status| self.error("cannot get services", &status))?;
        Ok(found
            .into_iter()
            .map(|service| Record::Service(Box::new(service)))
            .collect())
    }

    async fn endpoints(&mut self, name: Option<&str>) -> Result<Vec<Record>> {
        if let Some((service, id)) = name.and_then(|name| name.split_once('/')) {
            let (service, id) = (service.to_owned(), id.to_owned());
            let found = self
                .registry
                .get_endpoint(EndpointRef { service, id })
                .await;
            let found = found.map_err(|status| self.error("cannot get the endpoint", &status))?;
            return Ok(vec![Record::Endpoint(found.into_inner())]);
        }
        let services = match name {
            Some(name) => vec![name.to_owned()],
            None => {
                let services = self.services(None).await?.into_iter();
                let name = |record| match record {
                    Record::Service(service) => Some(service.name),
                    _ => None,
                };
                services.filter_map(name).collect()
            }
        };
        let mut endpoints = Vec::new();
        for service in services {
            let found = self.registry.list_endpoints(ServiceRef { service }).await;
            let found = found.map_err(|status| self.error("cannot get endpoints", &status))?;
            endpoints.extend(
                found
                    .into_inner()
                    .endpoints
                    .into_iter()
                    .map(Record::Endpoint),
            );
        }
        Ok(endpoints)
    }

    async fn regions(&mut self, name: Option<&str>) -> Result<Vec<Record>> {
        let found = match name {
            Some(name) => {
                let region = name.to_owned();
                let found = self.registry.get_region(RegionRef { region }).await;
                found.map(|found| vec![found.into_inner()])
            }
            None => {
                let found = self.registry.list_regions(ListRequest {}).await;
                found.map(|found| found.into_inner().regions)
            }
        };
        let found = found.map_err(|status| self.error("cannot get regions", &status))?;
        Ok(found.into_iter().map(Record::Region).collect())
    }

    async fn delete(&mut self, kind: Kind, name: &str) -> Result<String> {
        let owned = name.to_owned();
        let (title, gone) = match kind {
            Kind::Services => {
                let gone = self
                    .registry
                    .delete_service(ServiceRef { service: owned })
                    .await;
                (format!("service {name}"), gone)
            }
            Kind::Regions => {
                let gone = self
                    .registry
                    .delete_region(RegionRef { region: owned })
                    .await;
                (format!("region {name}"), gone)
            }
            Kind::Endpoints => {
                let (service, id) = name
                    .split_once('/')
                    .with_context(|| format!("{name} is not SERVICE/ID"))?;
                if id.is_empty() {
                    bail!("{name} is not SERVICE/ID");
                }
                let (service, id) = (service.to_owned(), id.to_owned());
                let gone = self
                    .registry
                    .delete_endpoint(EndpointRef { service, id })
                    .await;
                (format!("endpoint {name}"), gone)
            }
        };
        match gone {
            Ok(_) => Ok(title),
            Err(status) => Err(self.error(&format!("cannot delete {title}"), &status)),
        }
    }
}

/// What no Envoy could use of these.
fn rejected(records: &[Record]) -> String {
    let lines = records
        .iter()
        .map(|record| rejections::lines(record.rejected()));
    let lines = lines.collect::<String>();
    match lines.is_empty() {
        true => lines,
        false => format!("\n{lines}"),
    }
}

fn services_table(records: &[Record]) -> String {
    let rows = records.iter().filter_map(|record| match record {
        Record::Service(service) => Some([
            service.name.clone(),
            service.version.to_string(),
            service.protocol().as_str_name().to_owned(),
            service.load_balancing().as_str_name().to_owned(),
            service
                .access
                .as_ref()
                .map_or("everybody".to_owned(), |access| access.allow.join(" ")),
        ]),
        _ => None,
    });
    let header = ["NAME", "VERSION", "PROTOCOL", "BALANCING", "CALLERS"];
    table(header, &rows.collect::<Vec<_>>())
}

fn endpoints_table(records: &[Record]) -> String {
    let rows = records.iter().filter_map(|record| match record {
        Record::Endpoint(endpoint) => Some([
            endpoint.service.clone(),
            endpoint.id.clone(),
            endpoint.version.to_string(),
            host_and_port(&endpoint.address, endpoint.port),
            endpoint.version_label.clone(),
            endpoint.zone.clone(),
            endpoint.weight.unwrap_or(1).to_string(),
            if endpoint.draining() {
                "draining"
            } else {
                "ready"
            }
            .to_owned(),
            if endpoint.ttl > 0 {
                format!("{}s", endpoint.ttl)
            } else {
                String::new()
            },
        ]),
        _ => None,
    });
    let header = [
        "SERVICE", "ID", "VERSION", "ADDRESS", "LABEL", "ZONE", "WEIGHT", "STATE", "LEASE",
    ];
    table(header, &rows.collect::<Vec<_>>())
}

fn regions_table(records: &[Record]) -> String {
    let rows = records.iter().filter_map(|record| match record {
        Record::Region(region) => Some([
            region.name.clone(),
            region.version.to_string(),
            if region.local {
                "this one".to_owned()
            } else {
                distance(region)
            },
            gateways(region),
            region
                .trust_bundle
                .matches("-----BEGIN CERTIFICATE-----")
                .count()
                .to_string(),
        ]),
        _ => None,
    });
    table(
        ["NAME", "VERSION", "DISTANCE", "GATEWAYS", "ROOTS"],
        &rows.collect::<Vec<_>>(),
    )
}

fn distance(region: &v1::Region) -> String {
    region
        .distance
        .map(|distance| distance.to_string())
        .unwrap_or_default()
}

fn gateways(region: &v1::Region) -> String {
    let gateways = region
        .gateways
        .iter()
        .map(|at| host_and_port(&at.address, at.port));
    gateways.collect::<Vec<_>>().join(" ")
}

fn host_and_port(host: &str, port: u32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let service = v1::Service {
            name: "pay".into(),
            version: 3,
            ..Default::default()
        };
        assert_eq!(
            services_table(&[Record::Service(Box::new(service))]),
            "NAME  VERSION  PROTOCOL  BALANCING      CALLERS\n\
             pay   3        auto      least_request  everybody\n"
        );
        let endpoint = v1::Endpoint {
            service: "pay".into(),
            id: "e1".into(),
            version: 1,
            address: "::1".into(),
            port: 80,
            draining: Some(true),
            ttl: 30,
            ..Default::default()
        };
        assert_eq!(
            endpoints_table(&[Record::Endpoint(endpoint)]),
            "SERVICE  ID  VERSION  ADDRESS   LABEL  ZONE  WEIGHT  STATE     LEASE\n\
             pay      e1  1        [::1]:80  -      -     1       draining  30s\n"
        );
        let region = v1::Region {
            name: "eu".into(),
            version: 2,
            local: true,
            gateways: vec![v1::Gateway {
                address: "gw".into(),
                port: 15443,
            }],
            ..Default::default()
        };
        assert_eq!(
            regions_table(&[Record::Region(region)]),
            "NAME  VERSION  DISTANCE  GATEWAYS  ROOTS\n\
             eu    2        this one  gw:15443  0\n"
        );
    }
}
