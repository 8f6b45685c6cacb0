//! How buckets are reached, as it is said by hand: `--s3 endpoint=http://localhost:9000`.

use tidemill_base::options::Options;
use tidemill_state::store::S3;

use crate::arguments::Buckets;
use crate::failure::Failure;

/// What was said; the rest is in the environment.
pub(crate) fn s3(buckets: &Buckets) -> Result<S3, Failure> {
    let mut pairs = Vec::new();
    for text in &buckets.s3 {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Failure::Usage(format!("'{text}' of --s3 is not written as KEY=VALUE")));
        };
        pairs.push((format!("s3.{key}"), value.to_string()));
    }
    let mut options = Options::new("--s3", pairs);
    let taken = S3::take(&mut options).and_then(|s3| options.finish().map(|()| s3));
    taken.map_err(|error| Failure::Usage(format!("{}: {}", plain(&error.to_string()), plain(&error.help()))))
}

/// A sentence about options as they are written behind `--s3`.
fn plain(text: &str) -> String {
    text.replace("'s3.", "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[&str]) -> Result<S3, String> {
        let buckets = Buckets { s3: pairs.iter().map(|pair| pair.to_string()).collect() };
        s3(&buckets).map_err(|failure| match failure {
            Failure::Usage(text) => text,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn what_is_said_is_what_a_pipeline_could_set() {
        let said = ["endpoint=http://localhost:9000/?a=b", "region=eu-1", "access-key=me", "session-token=t"];
        let found = read(&[&said[..], &["secret-key=s", "allow-http=true"]].concat()).expect("all of it is known");
        assert_eq!(found.endpoint.as_deref(), Some("http://localhost:9000/?a=b"));
        let keys = [&found.region, &found.access_key, &found.secret_key, &found.session_token];
        assert_eq!(keys.map(Option::as_deref), [Some("eu-1"), Some("me"), Some("s"), Some("t")]);
        assert!(found.allow_http);
        assert!(read(&[]).is_ok_and(|s3| s3.endpoint.is_none() && !s3.allow_http));
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        let check = |pair: &str, words: &[&str]| {
            let refused = read(&[pair]).expect_err(pair);
            words.iter().for_each(|word| assert!(refused.contains(word), "{refused}"));
        };
        check("endpoint", &["'endpoint'", "KEY=VALUE"]);
        check("endpiont=x", &["no option 'endpiont'", "did you mean 'endpoint'?"]);
        check("allow-http=maybe", &["'allow-http' = 'maybe'", "'true' or 'false'"]);
    }
}
