//! Who may come in, and how often.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;
use tidemill_gateway::{Config, Doors, Hall, Options, Rate, Rates, Scope, Stack, Token, new_token};

use super::client::{Answer, Client, request};
use super::hall;

const BODY: &[u8] = b"{\"a\": 1}";

fn options(stack: Stack) -> Options {
    Options { listen: "127.0.0.1:0".parse().expect("an address"), stack, ..Options::default() }
}

fn open(doors: Vec<Options>, tokens: Vec<Token>) -> Doors {
    Doors::open(Config { doors, tokens }, hall().0).expect("the loopback has free ports")
}

/// A token with scopes, and what its owner sends.
fn token(name: &str, scopes: &[&str]) -> (Token, String) {
    let (text, digest) = new_token().expect("the system has random bytes");
    let pair = |at: usize| u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).expect("hexadecimal");
    let sha256 = std::array::from_fn(pair);
    let scopes = scopes.iter().map(|scope| Scope::parse(scope).expect("a scope")).collect();
    (Token { name: name.to_string(), sha256, scopes }, format!("Bearer {text}"))
}

fn send(address: SocketAddr, method: &str, target: &str, authorization: Option<&str>) -> Answer {
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(authorization.map(|value| ("Authorization", value)));
    let mut client = Client::to(address);
    client.send(&request(method, target, &headers, BODY));
    client.answer().expect("an answer")
}

#[test]
fn both_stacks_ask_who_calls() {
    let (web, bearer) = token("web", &["ingest:orders"]);
    let doors = open(vec![options(Stack::Standard), options(Stack::Fast)], vec![web]);
    for address in doors.addresses() {
        let status = |method, target, authorization| send(address, method, target, authorization).status;
        let orders = "/v1/sources/orders";
        assert_eq!(status("POST", orders, Some(&bearer)), 202);
        assert_eq!(status("POST", orders, None), 401);
        assert_eq!(status("POST", orders, Some("Bearer tm_wrong")), 401);
        assert_eq!(status("POST", "/v1/sources/others", Some(&bearer)), 403);
        assert_eq!(status("GET", "/v1/views/ten", Some(&bearer)), 403);
        assert_eq!(status("GET", "/v1/health", None), 200, "whether it is open anybody may know");
        let answer = send(address, "POST", orders, None);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tidemill\""));
        assert_eq!(answer.json()["code"], json!("TM5130"));
    }
    doors.stop(std::time::Duration::from_secs(5));
}

#[test]
fn a_door_that_asks_may_be_reached_by_others() {
    let everywhere = Options { listen: "0.0.0.0:0".parse().expect("an address"), ..Options::default() };
    let refused = Doors::open(Config::one(everywhere.clone()), Hall::new());
    assert!(refused.is_err_and(|error| error.to_string().contains("other machines")));
    let (web, _) = token("web", &["admin"]);
    let opened = Doors::open(Config { doors: vec![everywhere], tokens: vec![web] }, Hall::new());
    opened.map_err(|error| error.to_string()).expect("it asks").stop(std::time::Duration::ZERO);
}

#[test]
fn tokens_and_rates_change_while_connections_are_open() {
    let ((web, first), (new, second)) = (token("web", &["ingest:orders"]), token("new", &["ingest:*"]));
    let both = vec![options(Stack::Standard), options(Stack::Fast)];
    let doors = open(both.clone(), vec![web.clone()]);
    let reload = doors.reload();
    let file = Path::new("doors.toml");
    let mut clients: Vec<Client> = doors.addresses().into_iter().map(Client::to).collect();
    let mut check = |bearer: &str, expected: u16| {
        for client in &mut clients {
            let headers = [("Content-Type", "application/json"), ("Authorization", bearer)];
            client.send(&request("POST", "/v1/sources/orders", &headers, BODY));
            assert_eq!(client.answer().expect("the connection is kept").status, expected);
        }
    };
    check(&first, 202);
    check(&second, 401);
    let taken = reload.take(Config { doors: both.clone(), tokens: vec![new.clone()] }, file);
    assert_eq!(taken.expect("the doors are the same"), Vec::<String>::new());
    check(&first, 401);
    check(&second, 202);

    let rates = Rates { identity: Rate::parse("1/h"), ..Rates::default() };
    let slower = both.iter().map(|door| Options { rates, workers: 7, ..door.clone() }).collect();
    let notes = reload.take(Config { doors: slower, tokens: vec![web, new.clone()] }, file).expect("the same doors");
    assert!(notes.len() == 2 && notes[0].contains("waits for a start"), "{notes:?}");
    check(&second, 202);
    check(&second, 429);
    check(&first, 202);

    let other = vec![both[0].clone()];
    let refused = reload.take(Config { doors: other, tokens: Vec::new() }, file).expect_err("a door is gone");
    assert!(refused.to_string().contains("doors.toml: it describes other doors"), "{refused}");
    check(&second, 429);
    reload.take(Config { doors: Vec::new(), tokens: vec![new] }, file).expect("doors were opened elsewhere");
    check(&second, 202);
    doors.stop(std::time::Duration::from_secs(5));
}

#[test]
fn a_door_that_others_reach_goes_on_asking() {
    let everywhere = Options { listen: "0.0.0.0:0".parse().expect("an address"), ..Options::default() };
    let (web, bearer) = token("web", &["admin"]);
    let doors = open(vec![everywhere.clone()], vec![web]);
    let refused = doors.reload().take(Config::one(everywhere), Path::new("doors.toml"));
    assert!(refused.is_err_and(|error| error.to_string().contains("other machines")));
    let address = SocketAddr::from(([127, 0, 0, 1], doors.addresses()[0].port()));
    assert_eq!(send(address, "POST", "/v1/sources/orders", None).status, 401);
    assert_eq!(send(address, "POST", "/v1/sources/orders", Some(&bearer)).status, 202);
    doors.stop(std::time::Duration::from_secs(5));
}

#[test]
fn requests_beyond_a_rate_are_told_when_to_come_again() {
    for stack in [Stack::Standard, Stack::Fast] {
        let rates = Rates { address: Rate::parse("2/h"), ..Rates::default() };
        let doors = open(vec![Options { rates, ..options(stack) }], Vec::new());
        let address = doors.addresses()[0];
        let mut answers: Vec<Answer> = (0..3).map(|_| send(address, "POST", "/v1/sources/orders", None)).collect();
        let last = answers.pop().expect("three");
        assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
        assert_eq!(last.status, 429, "{stack:?}");
        assert_eq!(last.header("ratelimit-policy"), Some("\"address\";q=2;w=3600"));
        let wait: u64 = last.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a number");
        assert!((1..=1800).contains(&wait), "{wait}");
        doors.stop(std::time::Duration::from_secs(5));
    }
}

#[test]
fn each_token_and_each_source_has_a_rate_of_its_own() {
    let rates = Rates { identity: Rate::parse("1/h"), source: Rate::parse("2/h"), ..Rates::default() };
    let ((one, first), (two, second), (three, third)) =
        (token("one", &["admin"]), token("two", &["admin"]), token("three", &["admin"]));
    let doors = open(vec![Options { rates, ..options(Stack::Standard) }], vec![one, two, three]);
    let status = |bearer: &str| send(doors.addresses()[0], "POST", "/v1/sources/orders", Some(bearer)).status;
    assert_eq!([status(&first), status(&first), status(&second)], [202, 429, 429]);
    let policy = send(doors.addresses()[0], "POST", "/v1/sources/orders", Some(&third));
    assert_eq!(policy.header("ratelimit-policy"), Some("\"source\";q=2;w=3600"));
    doors.stop(std::time::Duration::from_secs(5));
}

#[test]
fn connections_from_one_address_are_bounded() {
    let limited = Options { address_connections_max: 2, ..options(Stack::Standard) };
    let doors = open(vec![limited], Vec::new());
    let address = doors.addresses()[0];
    let health = request("GET", "/v1/health", &[], b"");
    let mut held: Vec<Client> = (0..2).map(|_| Client::to(address)).collect();
    for client in &mut held {
        client.send(&health);
        assert_eq!(client.answer().map(|answer| answer.status), Some(200));
    }
    let mut third = Client::to(address);
    third.send(&health);
    let answer = third.answer().expect("a word");
    assert_eq!((answer.status, answer.header("connection")), (429, Some("close")));
    assert_eq!(answer.json()["code"], json!("TM5133"));
    held[0].send(&health);
    assert_eq!(held[0].answer().map(|answer| answer.status), Some(200), "the others go on");
    doors.stop(std::time::Duration::from_secs(5));
}

#[test]
fn a_door_that_cannot_open_closes_those_before_it() {
    let first = open(vec![options(Stack::Standard)], Vec::new());
    let taken = Options { listen: first.addresses()[0], ..Options::default() };
    let refused = Doors::open(Config { doors: vec![options(Stack::Fast), taken], tokens: Vec::new() }, Hall::new());
    assert!(refused.is_err_and(|error| error.to_string().contains("cannot listen")));
    first.stop(std::time::Duration::from_secs(5));
}
