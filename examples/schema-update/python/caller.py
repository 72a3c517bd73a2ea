"""Tells every database in every region of a schema: the caller of the example, with nothing but plain gRPC.

    pip install -r requirements.txt
    python caller.py --schema ../schema.sql --databases orders-db,users-db --regions eu,us
"""

import argparse
import pathlib
import sys

import grpc

sys.path.append(str(pathlib.Path(__file__).parent.parent / "proto"))
messages, services = grpc.protos_and_services("schema_update.proto")

options = argparse.ArgumentParser()
options.add_argument("--schema", type=pathlib.Path, required=True)
options.add_argument("--envoy", default="127.0.0.1:10000", help="the Envoy beside this program")
options.add_argument("--databases", required=True)
options.add_argument("--regions", required=True)
options = options.parse_args()

statements = options.schema.read_text()
version = int(statements.splitlines()[0].removeprefix("-- version:"))
update = messages.ApplySchemaRequest(version=version, statements=statements)
failed = False
with grpc.insecure_channel(options.envoy) as channel:
    apply = services.SchemaUpdateServiceStub(channel).ApplySchema
    for region in options.regions.split(","):
        for database in options.databases.split(","):
            where = (("x-mesh-service", database), ("x-mesh-region", region))
            try:
                answer = apply(update, metadata=where, timeout=5)
                print(f"{database} in {answer.region}: version {answer.version}")
            except grpc.RpcError as error:
                failed = True
                print(f"{database} in {region}: {error.code().name}: {error.details()}")
sys.exit(failed)
