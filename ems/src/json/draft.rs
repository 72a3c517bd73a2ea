//! A message as far as it could be read, and what could not be: whoever goes on to check it tells everything at once.

use isthmus_model::config::is_within;
use prost::{Message, Name};
use serde_json::Value;

use crate::record::{FieldError, Invalid};

/// What was read of a message.
#[derive(Clone, Debug, Default)]
pub struct Draft<M> {
    /// The message. Fields that could not be read are at their defaults.
    pub message: M,
    faults: Vec<FieldError>,
}

impl<M: Message + Name + Default> Draft<M> {
    /// Reads JSON text.
    ///
    /// # Errors
    /// What is wrong with the text as a whole.
    pub fn read(text: &[u8]) -> Result<Self, Invalid> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let read = super::read_from(&mut deserializer).and_then(|message| {
            deserializer
                .end()
                .map_err(|_| Invalid::one("", "has more text after the message"))?;
            Ok(message)
        });
        match read {
            Ok(message) => Ok(Self {
                message,
                faults: Vec::new(),
            }),
            Err(first) => match serde_json::from_slice(text) {
                // Perhaps it was only not canonical.
                Ok(value) => Self::from_value(value),
                Err(_) => Err(first),
            },
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong with the value as a whole.
    pub fn from_value(mut value: Value) -> Result<Self, Invalid> {
        let faults = super::sift::sift(&mut value, &super::descriptor::<M>()?);
        match super::read_from(value) {
            Ok(message) => Ok(Self { message, faults }),
            Err(error) => Err(Invalid::all(faults).unwrap_or(error)),
        }
    }
}

impl<M> Draft<M> {
    /// The same for another type that holds the message.
    pub fn map<T>(self, into: impl FnOnce(M) -> T) -> Draft<T> {
        Draft {
            message: into(self.message),
            faults: self.faults,
        }
    }

    /// Adds what is wrong, but for fields that have a fault already: what could not be read is not missing.
    pub fn add(&mut self, more: &Invalid) {
        let known = self.faults.len();
        for error in more.fields() {
            let told = |fault: &FieldError| {
                is_within(&fault.field, &error.field) || is_within(&error.field, &fault.field)
            };
            if !self.faults.iter().take(known).any(told) {
                self.faults.push(error.clone());
            }
        }
    }

    /// The message, if nothing is wrong with it.
    ///
    /// # Errors
    /// Everything that is.
    pub fn finish(self) -> Result<M, Invalid> {
        match Invalid::all(self.faults) {
            None => Ok(self.message),
            Some(invalid) => Err(invalid),
        }
    }

    /// Like [`finish`](Self::finish), for a message that is checked by whoever takes it: the check is run here only where
    /// nobody else will come to it.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn finish_with(
        mut self,
        check: impl FnOnce(&M) -> Result<(), Invalid>,
    ) -> Result<M, Invalid> {
        if !self.faults.is_empty()
            && let Err(more) = check(&self.message)
        {
            self.add(&more);
        }
        self.finish()
    }
}
