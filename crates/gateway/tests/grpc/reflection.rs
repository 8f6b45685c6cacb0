//! Reflection: what there is, for tools that know nothing before.

use prost_types::FileDescriptorProto;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::*;

#[test]
fn services_and_tables_are_described() {
    let door = Door::open();
    let mut client = ServerReflectionClient::new(door.channel());
    let mut ask = |question| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        door.runtime.block_on(async {
            let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.expect("a stream");
            let answer = answers.get_mut().message().await.expect("it is answered").expect("one answer");
            answer.message_response.expect("it says something")
        })
    };
    let MessageResponse::ListServicesResponse(services) = ask(MessageRequest::ListServices(String::new())) else {
        panic!("services were asked for");
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["tidemill.v1.Ingest", "tidemill.v1.Decide", "tidemill.v1.View", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    for (symbol, file) in [
        ("tidemill.v1.Decide", "tidemill/v1/decide.proto"),
        ("tidemill.tables.Orders", "tidemill/tables/orders.proto"),
        ("tidemill.tables.OrdersColumns", "tidemill/tables/orders.proto"),
        ("tidemill.tables.Ten", "tidemill/tables/ten.proto"),
    ] {
        let MessageResponse::FileDescriptorResponse(files) =
            ask(MessageRequest::FileContainingSymbol(symbol.to_string()))
        else {
            panic!("{symbol} is known");
        };
        let described = FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).expect("a descriptor");
        assert_eq!(described.name(), file);
    }
}
