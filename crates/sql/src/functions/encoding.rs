//! Digests, Base64, hexadecimal notation, character sets.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::BinaryBuilder;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_schema::DataType;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use datafusion::common::{Result, exec_err};
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use super::call::Call;
use super::function::Function;

/// Standard alphabet; padding is written, and may be missing when read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "md5",
        "MD5(STRING) -> STRING",
        "The MD5 digest in hexadecimal.",
        &[("MD5('abc')", "900150983cd24fb0d6963f7d28e17f72")],
        digest::<Md5>,
    ),
    Function::new(
        "sha1",
        "SHA1(STRING) -> STRING",
        "The SHA-1 digest in hexadecimal.",
        &[("SHA1('abc')", "a9993e364706816aba3e25717850c26c9cd0d89d")],
        digest::<Sha1>,
    ),
    Function::new(
        "sha224",
        "SHA224(STRING) -> STRING",
        "The SHA-224 digest in hexadecimal.",
        &[("LEFT(SHA224('abc'), 8)", "23097d22")],
        digest::<Sha224>,
    ),
    Function::new(
        "sha256",
        "SHA256(STRING) -> STRING",
        "The SHA-256 digest in hexadecimal.",
        &[("LEFT(SHA256('abc'), 8)", "ba7816bf")],
        digest::<Sha256>,
    ),
    Function::new(
        "sha384",
        "SHA384(STRING) -> STRING",
        "The SHA-384 digest in hexadecimal.",
        &[("LEFT(SHA384('abc'), 8)", "cb00753f")],
        digest::<Sha384>,
    ),
    Function::new(
        "sha512",
        "SHA512(STRING) -> STRING",
        "The SHA-512 digest in hexadecimal.",
        &[("LEFT(SHA512('abc'), 8)", "ddaf35a1")],
        digest::<Sha512>,
    ),
    Function::new(
        "sha2",
        "SHA2(STRING, INT) -> STRING",
        "The SHA-2 digest of 224, 256, 384 or 512 bits in hexadecimal.",
        &[("SHA2('abc', 256) = SHA256('abc')", "true")],
        sha2,
    ),
    Function::new(
        "to_base64",
        "TO_BASE64(STRING) -> STRING",
        "In Base64.",
        &[("TO_BASE64('hello world')", "aGVsbG8gd29ybGQ=")],
        |call| {
            let text = call.text(0)?;
            call.write_text(|row, out| Ok(text.get(row).map(|text| BASE64.encode_string(text, out))))
        },
    ),
    Function::new(
        "from_base64",
        "FROM_BASE64(STRING) -> STRING",
        "The text that was encoded in Base64.",
        &[("FROM_BASE64('aGVsbG8gd29ybGQ=')", "hello world")],
        |call| {
            let text = call.text(0)?;
            call.write_text(|row, out| {
                let Some(text) = text.get(row) else { return Ok(None) };
                match BASE64.decode(text) {
                    Ok(bytes) => out.push_str(&String::from_utf8_lossy(&bytes)),
                    Err(error) => return exec_err!("'{text}' is not Base64: {error}"),
                }
                Ok(Some(()))
            })
        },
    ),
    Function::new(
        "hex",
        "HEX(STRING) -> STRING; HEX(BIGINT) -> STRING",
        "The bytes of a text, or an integer, in capital hexadecimal digits.",
        &[("HEX(20)", "14"), ("HEX('hello')", "68656C6C6F")],
        hex,
    ),
    Function::new(
        "unhex",
        "UNHEX(STRING) -> BYTES",
        "The bytes that hexadecimal digits stand for; NULL when they are none.",
        &[("DECODE(UNHEX('68656C6C6F'), 'UTF-8')", "hello")],
        unhex,
    ),
    Function::new(
        "encode",
        "ENCODE(STRING, STRING) -> BYTES",
        "The bytes in a character set: US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE, UTF-16LE.",
        &[("HEX(DECODE(ENCODE('hé', 'UTF-8'), 'UTF-8'))", "68C3A9")],
        encode,
    ),
    Function::new(
        "decode",
        "DECODE(BYTES, STRING) -> STRING",
        "The text of bytes in a character set; what is not valid becomes U+FFFD.",
        &[("DECODE(ENCODE('hé', 'UTF-16'), 'UTF-16')", "hé")],
        decode,
    ),
];

fn digest<D: Digest>(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    call.write_text(|row, out| Ok(text.get(row).map(|text| write_hex(&D::digest(text.as_bytes()), out))))
}

fn write_hex(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn sha2(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, bits) = (call.text(0)?, call.numbers::<Int32Type>(1)?);
    call.write_text(|row, out| {
        let (Some(text), Some(bits)) = (text.get(row), bits.get(row)) else { return Ok(None) };
        match bits {
            224 => write_hex(&Sha224::digest(text.as_bytes()), out),
            256 => write_hex(&Sha256::digest(text.as_bytes()), out),
            384 => write_hex(&Sha384::digest(text.as_bytes()), out),
            512 => write_hex(&Sha512::digest(text.as_bytes()), out),
            _ => return exec_err!("SHA2 has 224, 256, 384 or 512 bits, not {bits}"),
        }
        Ok(Some(()))
    })
}

fn hex(call: &Call<'_>) -> Result<ArrayRef> {
    if call.data_type(0) == DataType::Int64 {
        let value = call.numbers::<Int64Type>(0)?;
        return call.write_text(|row, out| {
            Ok(value.get(row).map(|value| {
                write!(out, "{value:X}").ok();
            }))
        });
    }
    let text = call.text(0)?;
    call.write_text(|row, out| {
        Ok(text.get(row).map(|text| {
            write_hex(text.as_bytes(), out);
            out.make_ascii_uppercase();
        }))
    })
}

fn build_bytes(call: &Call<'_>, mut value: impl FnMut(usize) -> Result<Option<Vec<u8>>>) -> Result<ArrayRef> {
    let mut builder = BinaryBuilder::new();
    for row in 0..call.rows {
        builder.append_option(value(row)?);
    }
    Ok(Arc::new(builder.finish()))
}

fn unhex(call: &Call<'_>) -> Result<ArrayRef> {
    let text = call.text(0)?;
    build_bytes(call, |row| Ok(text.get(row).and_then(from_hex)))
}

/// Reads hexadecimal digits; an odd first one stands alone.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits?;
    let (first, pairs) = digits.split_at(digits.len() % 2);
    Some(first.iter().copied().chain(pairs.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1])).collect())
}

fn encode(call: &Call<'_>) -> Result<ArrayRef> {
    let (text, charset) = (call.text(0)?, call.text(1)?);
    build_bytes(call, |row| {
        let (Some(text), Some(charset)) = (text.get(row), charset.get(row)) else { return Ok(None) };
        let single =
            |limit: u32| text.chars().map(|c| if u32::from(c) < limit { u32::from(c) as u8 } else { b'?' }).collect();
        Ok(Some(match charset.to_ascii_uppercase().as_str() {
            "UTF-8" => text.as_bytes().to_vec(),
            "US-ASCII" => single(0x80),
            "ISO-8859-1" => single(0x100),
            "UTF-16" => [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect(),
            "UTF-16BE" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            "UTF-16LE" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            _ => return unknown(charset),
        }))
    })
}

fn decode(call: &Call<'_>) -> Result<ArrayRef> {
    let (bytes, charset) = (call.bytes(0)?, call.text(1)?);
    call.write_text(|row, out| {
        let (Some(bytes), Some(charset)) = (bytes.get(row), charset.get(row)) else { return Ok(None) };
        let mut wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
            let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
            out.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
        };
        match charset.to_ascii_uppercase().as_str() {
            "UTF-8" => out.push_str(&String::from_utf8_lossy(bytes)),
            "US-ASCII" => {
                out.extend(bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '\u{fffd}' }))
            }
            "ISO-8859-1" => out.extend(bytes.iter().map(|byte| char::from(*byte))),
            "UTF-16" if bytes.starts_with(&[0xff, 0xfe]) => wide(&bytes[2..], u16::from_le_bytes),
            "UTF-16" => wide(bytes.strip_prefix(&[0xfe, 0xff]).unwrap_or(bytes), u16::from_be_bytes),
            "UTF-16BE" => wide(bytes, u16::from_be_bytes),
            "UTF-16LE" => wide(bytes, u16::from_le_bytes),
            _ => return unknown(charset),
        }
        Ok(Some(()))
    })
}

fn unknown<T>(charset: &str) -> Result<T> {
    exec_err!("the character set '{charset}' is not known; US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE, UTF-16LE are")
}
