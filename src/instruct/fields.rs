//! A JSON object's fields, taken one by one, so that an error names the field and what it held, and
//! a misspelt field is an error rather than a default.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Fields not yet taken.
#[derive(Debug)]
pub struct Fields(Map<String, Value>);

impl Fields {
    /// The fields of one JSON object in text.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) where the text is no JSON object.
    pub fn parse(json: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(json)
            .map_err(|e| Error::invalid_argument(format!("not valid JSON: {e}")).caused_by(e))?;
        match value {
            Value::Object(map) => Ok(Self(map)),
            other => Err(Error::invalid_argument(format!(
                "expected a JSON object, found {}",
                shown(&other)
            ))),
        }
    }

    /// Takes a field of any type; null counts as absent.
    pub fn any(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a truth value.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn bool(&mut self, name: &str) -> Result<Option<bool>> {
        self.take(name, "true or false", |value| value.as_bool())
    }

    /// Takes a number.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn number(&mut self, name: &str) -> Result<Option<f32>> {
        self.take(name, "a number", |value| value.as_f64().map(|n| n as f32))
    }

    /// Takes a count.
    ///
    /// # Errors
    /// Where it is no whole number, or a negative one.
    pub fn count(&mut self, name: &str) -> Result<Option<usize>> {
        self.take(name, "a whole number from 0", |value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok())
        })
    }

    /// Takes a seed: any whole number of 64 bits, a negative one by its two's complement.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn seed(&mut self, name: &str) -> Result<Option<u64>> {
        self.take(name, "a whole number", |value| {
            value.as_u64().or(value.as_i64().map(|n| n as u64))
        })
    }

    /// Takes a text.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.take(name, "a string", |value| value.as_str().map(str::to_owned))
    }

    /// Takes one text or a list of texts.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        self.take(name, "a string or a list of strings", |value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(list) => list
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect(),
            _ => None,
        })
    }

    /// What was taken, insisting that it was there.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) naming the field.
    pub fn required<T>(name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::invalid_argument(format!("{name}: missing")))
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) naming a field that nothing took.
    pub fn finish(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::invalid_argument(format!("unknown field {name:?}"))),
        }
    }

    fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.any(name) else {
            return Ok(None);
        };
        read(&value).map(Some).ok_or_else(|| {
            Error::invalid_argument(format!(
                "{name}: expected {expected}, found {}",
                shown(&value)
            ))
        })
    }
}

/// A value in an error message, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
