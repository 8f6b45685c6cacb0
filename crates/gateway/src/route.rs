//! [`Route`]: what a method and a path ask for, whichever stack read them.

use std::borrow::Cow;

use tidemill_base::suggest;

use crate::problem::Problem;
use crate::query;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `POST /v1/sources/{name}`: events for a source.
    Events(Cow<'a, str>),
    /// `POST /v1/endpoints/{name}`: a decision.
    Question(Cow<'a, str>),
    /// `GET /v1/views/{name}`: rows of a view.
    Rows(Cow<'a, str>),
    /// `GET /v1/views/{name}/stream`: the changes of a view.
    Changes(Cow<'a, str>),
    /// `GET /v1/health`.
    Health,
    /// `GET /v1/{sources,endpoints,views,tables}`: the names there are.
    Names(Names),
    /// What is done with a versioned table.
    Table(Cow<'a, str>, OfTable<'a>),
    /// What is asked about the versions of the pipeline's state.
    Versions(OfVersions<'a>),
}

/// The kinds of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// Of sources.
    Sources,
    /// Of endpoints.
    Endpoints,
    /// Of views.
    Views,
    /// Of versioned tables.
    Tables,
}

/// What is done with a versioned table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OfTable<'a> {
    /// `GET versions`.
    List,
    /// `POST versions`.
    Submit,
    /// `GET at/{version}`.
    At(Cow<'a, str>),
    /// `GET diff/{a}..{b}`.
    Diff(Cow<'a, str>),
    /// `POST rollback`.
    RollBack,
}

/// What is asked about the versions of the pipeline's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OfVersions<'a> {
    /// `GET /v1/versions`.
    List,
    /// `GET /v1/versions/{version}`.
    Show(Cow<'a, str>),
    /// `GET /v1/versions/diff/{a}..{b}`.
    Diff(Cow<'a, str>),
}

/// How the paths begin under which events and questions are taken in.
pub(crate) const EVENTS: &str = "/v1/sources/";
pub(crate) const QUESTIONS: &str = "/v1/endpoints/";

impl<'a> Route<'a> {
    /// Whether a path is one for events or questions, if it is one at all.
    pub(crate) fn takes_in(path: &str) -> bool {
        path.starts_with(EVENTS) || path.starts_with(QUESTIONS)
    }

    /// The route of a request.
    pub(crate) fn of(method: &str, path: &'a str) -> Result<Self, Problem> {
        let unknown = || Problem::not_found("path", path, nearest(path));
        let Some(rest) = path.strip_prefix("/v1/") else { return Err(unknown()) };
        let (kind, rest) = rest.split_once('/').map_or((rest, None), |(kind, rest)| (kind, Some(rest)));
        match (kind, rest) {
            ("sources", Some(name)) if is_one(name) => {
                allow(method, "POST")?;
                Ok(Route::Events(decoded(name)?))
            }
            ("endpoints", Some(name)) if is_one(name) => {
                allow(method, "POST")?;
                Ok(Route::Question(decoded(name)?))
            }
            ("views", Some(name)) if is_one(name) => {
                allow(method, "GET, HEAD")?;
                Ok(Route::Rows(decoded(name)?))
            }
            ("views", Some(rest)) => match rest.split_once('/') {
                Some((name, "stream")) if is_one(name) => {
                    allow(method, "GET")?;
                    Ok(Route::Changes(decoded(name)?))
                }
                _ => Err(unknown()),
            },
            ("tables", Some(rest)) => match rest.split_once('/') {
                Some((name, rest)) if is_one(name) => {
                    Ok(Route::Table(decoded(name)?, OfTable::of(method, rest, path)?))
                }
                _ => Err(unknown()),
            },
            ("versions", rest) => {
                allow(method, "GET, HEAD")?;
                OfVersions::of(rest, path).map(Route::Versions)
            }
            ("health", None) => {
                allow(method, "GET, HEAD")?;
                Ok(Route::Health)
            }
            (kind, None) => {
                let names = Names::of(kind).ok_or_else(unknown)?;
                allow(method, "GET, HEAD")?;
                Ok(Route::Names(names))
            }
            _ => Err(unknown()),
        }
    }
}

impl Names {
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "sources" => Some(Names::Sources),
            "endpoints" => Some(Names::Endpoints),
            "views" => Some(Names::Views),
            "tables" => Some(Names::Tables),
            _ => None,
        }
    }
}

impl<'a> OfTable<'a> {
    fn of(method: &str, rest: &'a str, path: &str) -> Result<Self, Problem> {
        match rest.split_once('/') {
            None if rest == "versions" => {
                allow(method, "GET, HEAD, POST")?;
                Ok(if method == "POST" { OfTable::Submit } else { OfTable::List })
            }
            None if rest == "rollback" => {
                allow(method, "POST")?;
                Ok(OfTable::RollBack)
            }
            Some(("at", version)) if is_one(version) => {
                allow(method, "GET, HEAD")?;
                Ok(OfTable::At(decoded(version)?))
            }
            Some(("diff", range)) if is_one(range) => {
                allow(method, "GET, HEAD")?;
                Ok(OfTable::Diff(decoded(range)?))
            }
            _ => {
                let help = "a table has versions, at/{version}, diff/{a}..{b} and rollback under it";
                Err(Problem::not_found("path", path, help))
            }
        }
    }
}

impl<'a> OfVersions<'a> {
    fn of(rest: Option<&'a str>, path: &str) -> Result<Self, Problem> {
        match rest.map(|rest| rest.split_once('/').ok_or(rest)) {
            None => Ok(OfVersions::List),
            Some(Ok(("diff", range))) if is_one(range) => Ok(OfVersions::Diff(decoded(range)?)),
            Some(Err(version)) if !version.is_empty() => Ok(OfVersions::Show(decoded(version)?)),
            Some(_) => {
                let help = "there are /v1/versions/{version} and /v1/versions/diff/{a}..{b}";
                Err(Problem::not_found("path", path, help))
            }
        }
    }
}

/// Whether a rest of a path is one name.
fn is_one(rest: &str) -> bool {
    !rest.is_empty() && !rest.contains('/')
}

/// Fails unless the method is one of those that are allowed.
fn allow(method: &str, allowed: &'static str) -> Result<(), Problem> {
    if allowed.split(", ").any(|one| one == method) { Ok(()) } else { Err(Problem::method(method, allowed)) }
}

fn decoded(name: &str) -> Result<Cow<'_, str>, Problem> {
    query::decode(name, false)
        .ok_or_else(|| Problem::bad_query(format!("'{name}' is not percent-encoded UTF-8"), "encode the name as UTF-8"))
}

fn nearest(path: &str) -> String {
    let kinds = ["sources", "endpoints", "views", "tables", "versions", "health"];
    let kind = path.split('/').nth(2);
    match kind.and_then(|kind| suggest::nearest(kind, kinds)) {
        Some(kind @ ("health" | "versions")) => format!("did you mean /v1/{kind}?"),
        Some("tables") => "did you mean /v1/tables/{name}/versions?".to_string(),
        Some(kind) => format!("did you mean /v1/{kind}/{{name}}?"),
        None => "there are /v1/sources, /v1/endpoints, /v1/views, /v1/tables, /v1/versions and /v1/health".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, expected: Result<Route<'_>, (u16, &str)>) {
        match (Route::of(method, path), expected) {
            (Ok(route), Ok(expected)) => assert_eq!(route, expected, "{method} {path}"),
            (Err(problem), Err((status, part))) => {
                let reply = problem.reply();
                let body = String::from_utf8_lossy(&reply.body).to_string();
                assert!(reply.status == status && body.contains(part), "{method} {path}: {body}");
            }
            (found, _) => panic!("{method} {path}: {found:?}"),
        }
    }

    #[test]
    fn finds_what_there_is() {
        check("POST", "/v1/sources/clicks", Ok(Route::Events("clicks".into())));
        check("POST", "/v1/sources/a%20b", Ok(Route::Events("a b".into())));
        check("POST", "/v1/endpoints/score", Ok(Route::Question("score".into())));
        check("HEAD", "/v1/views/v", Ok(Route::Rows("v".into())));
        check("GET", "/v1/views/v/stream", Ok(Route::Changes("v".into())));
        check("GET", "/v1/endpoints", Ok(Route::Names(Names::Endpoints)));
        check("GET", "/v1/health", Ok(Route::Health));
        check("GET", "/v1/versions", Ok(Route::Versions(OfVersions::List)));
        check("GET", "/v1/versions/3-0-1", Ok(Route::Versions(OfVersions::Show("3-0-1".into()))));
        check("GET", "/v1/versions/diff/a..b", Ok(Route::Versions(OfVersions::Diff("a..b".into()))));
        check("POST", "/v1/tables/t/versions", Ok(Route::Table("t".into(), OfTable::Submit)));
        check("GET", "/v1/tables/t/versions", Ok(Route::Table("t".into(), OfTable::List)));
        check("GET", "/v1/tables/t/at/newest", Ok(Route::Table("t".into(), OfTable::At("newest".into()))));
    }

    #[test]
    fn only_events_and_questions_are_taken_in() {
        let paths = ["/v1/sources/a", "/v1/endpoints/a", "/v1/sources", "/v1/tables/t/versions", "/v1/sourcesa", "/"];
        assert_eq!(paths.map(Route::takes_in), [true, true, false, false, false, false]);
    }

    #[test]
    fn says_what_is_meant_by_what_there_is_not() {
        check("GET", "/v1/sources/clicks", Err((405, "use POST")));
        check("PUT", "/v1/endpoints/score", Err((405, "use POST")));
        check("POST", "/v1/views/v/stream", Err((405, "use GET")));
        check("POST", "/v1/source/clicks", Err((404, "did you mean /v1/sources/{name}?")));
        check("POST", "/v1/endpoint/score", Err((404, "did you mean /v1/endpoints/{name}?")));
        check("POST", "/v1/sources/", Err((404, "did you mean")));
        check("POST", "/v1/sources/a/b", Err((404, "did you mean")));
        check("GET", "/v1/views/v/streams", Err((404, "did you mean")));
        check("GET", "/v1/tables/t/rows", Err((404, "rollback under it")));
        check("GET", "/v1/versions/", Err((404, "/v1/versions/{version}")));
        check("GET", "/", Err((404, "there are /v1/sources")));
        check("POST", "/v1/sources/%zz", Err((400, "percent-encoded")));
    }
}
