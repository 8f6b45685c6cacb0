//! Little-endian bytes: appended to a buffer, and read back with an error instead of a panic.

/// What is wrong with saved bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage(pub String);

impl Damage {
    /// Bytes that are not what was to be read.
    pub(crate) fn of(message: impl Into<String>) -> Self {
        Damage(message.into())
    }
}

impl From<arrow_schema::ArrowError> for Damage {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Damage(error.to_string())
    }
}

/// Appends a length of 4 bytes and the bytes.
pub(crate) fn put_block(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Makes room for a length of 4 bytes; [`end_block`] writes it.
pub(crate) fn begin_block(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len()
}

/// Writes the length of all that was appended since [`begin_block`].
pub(crate) fn end_block(out: &mut [u8], start: usize) {
    let length = (out.len() - start) as u32;
    out[start - 4..start].copy_from_slice(&length.to_le_bytes());
}

/// Reads bytes from the front.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether all has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| Damage(format!("{count} bytes are wanted, {} are left", self.rest.len())))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or_else(|| Damage(format!("{N} bytes are wanted, {} are left", self.rest.len())))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Damage> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Damage> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Damage> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64, Damage> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Sixteen bytes.
    pub fn i128(&mut self) -> Result<i128, Damage> {
        Ok(i128::from_le_bytes(self.array()?))
    }

    /// Sixteen bytes.
    pub fn u128(&mut self) -> Result<u128, Damage> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    /// A length of 4 bytes, and so many bytes.
    pub fn block(&mut self) -> Result<&'a [u8], Damage> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A count of things of at least `bytes_min` bytes each, so that a damaged count asks for no memory.
    pub fn count(&mut self, bytes_min: usize) -> Result<usize, Damage> {
        let count = self.u32()? as usize;
        match count.checked_mul(bytes_min.max(1)) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(Damage(format!("{count} entries do not fit into {} bytes", self.rest.len()))),
        }
    }

    /// Nothing is left over.
    pub fn end(&self) -> Result<(), Damage> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(Damage(format!("{more} bytes are left over"))),
        }
    }
}
