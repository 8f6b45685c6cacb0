//! The messages of tables as descriptors, for reflection.

use std::collections::BTreeSet;

use prost_types::field_descriptor_proto::{Label as ProtoLabel, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MessageOptions};
use prost_types::{FileOptions, OneofDescriptorProto};
use tidemill_format::protobuf::{Field, Kind, Label, Message, Messages, entry_name};

use crate::hall::Hall;

/// The files of all sources and views. One whose messages have the names of another's is left out, with a word.
pub(super) fn tables(hall: &Hall) -> FileDescriptorSet {
    let mut names = BTreeSet::new();
    let mut file = Vec::new();
    for (name, columns) in hall.inbox_columns().chain(hall.view_columns()) {
        let messages = match Messages::of(name, &columns) {
            Ok(messages) => messages,
            Err(error) => {
                tracing::warn!(table = name, %error, "a table has no messages of Protocol Buffers");
                continue;
            }
        };
        // A message's name gives away the file's too.
        if names.insert(messages.messages[0].name.clone()) && names.insert(messages.file.clone()) {
            file.push(file_of(&messages));
        } else {
            tracing::warn!(table = name, "another table has the same message names; reflection leaves this one out");
        }
    }
    FileDescriptorSet { file }
}

/// The file of a table.
pub(super) fn file_of(messages: &Messages) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(messages.file.clone()),
        package: Some(messages.package.to_string()),
        message_type: messages.messages.iter().map(|message| message_of(message, messages.package)).collect(),
        options: Some(FileOptions { go_package: Some(messages.go_package.to_string()), ..FileOptions::default() }),
        syntax: Some("proto3".to_string()),
        ..FileDescriptorProto::default()
    }
}

fn message_of(message: &Message, scope: &str) -> DescriptorProto {
    let path = format!("{scope}.{}", message.name);
    let mut described = DescriptorProto { name: Some(message.name.clone()), ..DescriptorProto::default() };
    described.nested_type = message.nested.iter().map(|nested| message_of(nested, &path)).collect();
    for field in &message.fields {
        let mut field_of = field_of(field);
        match field.label {
            Label::Single | Label::Repeated => {}
            // Whether it is there is told by a oneof with nothing else in it.
            Label::Optional => {
                field_of.proto3_optional = Some(true);
                field_of.oneof_index = Some(described.oneof_decl.len() as i32);
                let name = Some(format!("_{}", field.name));
                described.oneof_decl.push(OneofDescriptorProto { name, options: None });
            }
            Label::Map => {
                let name = entry_name(&field.name);
                field_of.r#type = Some(Type::Message.into());
                field_of.type_name = Some(format!(".{path}.{name}"));
                described.nested_type.push(entry_of(name, field));
            }
        }
        described.field.push(field_of);
    }
    described
}

fn field_of(field: &Field) -> FieldDescriptorProto {
    let (kind, type_name) = type_of(&field.kind);
    let label = match field.label {
        Label::Single | Label::Optional => ProtoLabel::Optional,
        Label::Repeated | Label::Map => ProtoLabel::Repeated,
    };
    FieldDescriptorProto {
        name: Some(field.name.clone()),
        number: Some(field.number as i32),
        label: Some(label.into()),
        r#type: Some(kind.into()),
        type_name,
        json_name: Some(field.json_name()),
        ..FieldDescriptorProto::default()
    }
}

/// The message of a map's entries.
fn entry_of(name: String, field: &Field) -> DescriptorProto {
    let part = |name: &str, number: i32, kind: &Kind| {
        let (kind, type_name) = type_of(kind);
        FieldDescriptorProto {
            name: Some(name.to_string()),
            number: Some(number),
            label: Some(ProtoLabel::Optional.into()),
            r#type: Some(kind.into()),
            type_name,
            json_name: Some(name.to_string()),
            ..FieldDescriptorProto::default()
        }
    };
    DescriptorProto {
        name: Some(name),
        field: vec![part("key", 1, &Kind::String), part("value", 2, &field.kind)],
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..DescriptorProto::default()
    }
}

fn type_of(kind: &Kind) -> (Type, Option<String>) {
    match kind {
        Kind::Bool => (Type::Bool, None),
        Kind::Int32 => (Type::Int32, None),
        Kind::Int64 => (Type::Int64, None),
        Kind::Uint32 => (Type::Uint32, None),
        Kind::Float => (Type::Float, None),
        Kind::Double => (Type::Double, None),
        Kind::String => (Type::String, None),
        Kind::Bytes => (Type::Bytes, None),
        Kind::Message(path) => (Type::Message, Some(path.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field as Column, Schema, TimeUnit};

    use super::*;

    fn column(name: &str, data_type: DataType) -> Column {
        Column::new(name, data_type, true)
    }

    #[test]
    fn descriptors_are_what_a_compiler_makes_of_the_text() {
        let row = DataType::Struct(vec![column("x", DataType::Int64), column("y_z", DataType::Utf8)].into());
        let list = |item| DataType::List(Arc::new(column("item", item)));
        let map = |value| {
            let entry = vec![Column::new("key", DataType::Utf8, false), column("value", value)];
            DataType::Map(Arc::new(Column::new("entries", DataType::Struct(entry.into()), false)), false)
        };
        let schema = Schema::new(vec![
            Column::new("card", DataType::Utf8, false),
            column("paid", DataType::Boolean),
            column("size", DataType::Int16),
            column("rate", DataType::Float32),
            column("amount", DataType::Decimal128(10, 2)),
            column("at_ms", DataType::Timestamp(TimeUnit::Millisecond, None)),
            column("home-address", row.clone()),
            column("tags", list(DataType::Utf8)),
            column("grid", list(list(DataType::Float64))),
            column("places", map(row)),
            column("maps", map(list(DataType::Int32))),
            column("größe", DataType::Binary),
            column("rows", DataType::Int64),
            column("CardEntry", DataType::Int64),
        ]);
        let messages = Messages::of("card_payments", &schema).expect("every type has its form");
        let mut compiled = protox_parse(&messages);
        // A compiler says no default names in JSON; reflection does.
        clear_json_names(&mut compiled.message_type);
        let mut made = file_of(&messages);
        clear_json_names(&mut made.message_type);
        assert_eq!(made, compiled);
    }

    fn protox_parse(messages: &Messages) -> FileDescriptorProto {
        let folder = tempfile::tempdir().expect("a folder for a file");
        let path = folder.path().join("card_payments.proto");
        std::fs::write(&path, messages.to_string()).expect("the folder is ours");
        let compiled = protox::compile([&path], [folder.path()]).expect("the text is sound");
        let mut file = compiled.file.into_iter().next_back().expect("there is one file");
        file.name = Some(messages.file.clone());
        file.source_code_info = None;
        file
    }

    fn clear_json_names(messages: &mut [DescriptorProto]) {
        for message in messages {
            let plain = |field: &&mut FieldDescriptorProto| field.name == field.json_name;
            message.field.iter_mut().filter(plain).for_each(|field| field.json_name = None);
            clear_json_names(&mut message.nested_type);
        }
    }
}
