//! [`Messages`] as the text of a `.proto` file.

use std::fmt::{self, Display, Formatter, Write as _};

use super::schema::{Field, Kind, Label, Message, Messages, camel};

impl Display for Messages {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "// The messages of '{}'. A column's field has the number of its place in the table.", self.table)?;
        writeln!(f, "syntax = \"proto3\";\n\npackage {};", self.package)?;
        writeln!(f, "\noption go_package = \"{}\";", self.go_package)?;
        for message in &self.messages {
            writeln!(f)?;
            write_message(f, message, "")?;
        }
        Ok(())
    }
}

fn write_message(f: &mut Formatter<'_>, message: &Message, indent: &str) -> fmt::Result {
    let inner = format!("{indent}  ");
    write_comment(f, &message.comment, indent)?;
    writeln!(f, "{indent}message {} {{", message.name)?;
    for nested in &message.nested {
        write_message(f, nested, &inner)?;
        writeln!(f)?;
    }
    for field in &message.fields {
        write_comment(f, &field.comment, &inner)?;
        writeln!(f, "{inner}{field};")?;
    }
    writeln!(f, "{indent}}}")
}

fn write_comment(f: &mut Formatter<'_>, comment: &str, indent: &str) -> fmt::Result {
    comment.lines().try_for_each(|line| writeln!(f, "{indent}// {line}"))
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.label {
            Label::Single => write!(f, "{}", self.kind)?,
            Label::Optional => write!(f, "optional {}", self.kind)?,
            Label::Repeated => write!(f, "repeated {}", self.kind)?,
            Label::Map => write!(f, "map<string, {}>", self.kind)?,
        }
        write!(f, " {} = {}", self.name, self.number)?;
        if self.json_name() != camel(&self.name) {
            write!(f, " [json_name = {}]", quoted(&self.json_name()))?;
        }
        Ok(())
    }
}

impl Field {
    /// Its name in JSON: the column's own, unless Protocol Buffers does not take that.
    pub fn json_name(&self) -> String {
        let extension = self.column.starts_with('[') && self.column.ends_with(']');
        let usable = !self.column.is_empty() && !extension && !self.column.contains('\0');
        if usable { self.column.clone() } else { camel(&self.name) }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            0x20..0x7F => out.push(char::from(byte)),
            // Writing to a string does not fail.
            byte => drop(write!(out, "\\{byte:03o}")),
        }
    }
    out.push('"');
    out
}

impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bool => "bool",
            Kind::Int32 => "int32",
            Kind::Int64 => "int64",
            Kind::Uint32 => "uint32",
            Kind::Float => "float",
            Kind::Double => "double",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Message(path) => path,
        })
    }
}
