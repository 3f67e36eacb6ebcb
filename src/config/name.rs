//! temp
//!
//!
use std::fmt;
/// temp
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);
/// temp
#[derive(Debug)]
pub struct NameError;
impl Name {
    /// temp
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }
    /// temp
    pub fn root() -> Self {
        Self(Box::new([0]))
    }
}
impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let name: domain::base::Name<Vec<u8>> = s.parse().map_err(|_| NameError)?;
        Ok(Self(name.as_slice().to_ascii_lowercase().into()))
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
