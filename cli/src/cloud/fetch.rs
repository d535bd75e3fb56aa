//! Fetching a program that is configured by URL and SHA-256.

use std::time::Duration;

use forest_core::error::innermost;
use forest_core::reason::Reason;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::programs::hex;
use crate::config::Download;
use crate::failure::{Failure, chain};
use crate::progress::Progress;

/// No program is bigger, in bytes.
const MOST: usize = 512 << 20;
/// So long nothing may come.
const STALL: Duration = Duration::from_secs(30);

/// The program, once its SHA-256 is the one that is configured.
pub(super) async fn fetch(name: &str, from: &Download, progress: &mut Progress) -> Result<Vec<u8>, Failure> {
    let shown = from.url.split(['?', '#']).next().unwrap_or_default();
    let failed = |why: &str| {
        let message =
            format!("{name} was not fetched from {shown}: {why}; {}", Reason::DownloadFailed.remedy());
        Failure::new(Reason::DownloadFailed, message)
    };
    let url = Url::parse(&from.url).map_err(|_| failed("it is no URL"))?;
    let bytes = match url.scheme() {
        "file" => {
            let path = url.to_file_path().map_err(|()| failed("it names no file of this machine"))?;
            std::fs::read(path).map_err(|err| failed(&err.to_string()))?
        }
        _ => over_http(name, url, progress, &failed).await?,
    };
    let sha256 = hex(&Sha256::digest(&bytes));
    if !sha256.eq_ignore_ascii_case(&from.sha256) {
        let message = format!(
            "{name}: what is at {shown} has the SHA-256 {sha256}, and engine.sha256 says {}",
            from.sha256
        );
        return Err(Failure::new(Reason::DownloadSha256, message));
    }
    Ok(bytes)
}

async fn over_http(
    name: &str,
    url: Url,
    progress: &mut Progress,
    failed: &impl Fn(&str) -> Failure,
) -> Result<Vec<u8>, Failure> {
    let client = reqwest::Client::builder().connect_timeout(STALL).read_timeout(STALL).build();
    let client = client.map_err(|err| failed(&chain(&err)))?;
    // The URL may bear a token: the cause alone is told.
    let lost = |err: reqwest::Error| failed(&innermost(&err.without_url()));
    let mut answer = client.get(url).send().await.map_err(lost)?;
    if !answer.status().is_success() {
        return Err(failed(&format!("HTTP {}", answer.status())));
    }
    let total = answer.content_length().unwrap_or_default();
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(lost)? {
        bytes.extend_from_slice(&chunk);
        progress.part(&format!("fetching {name}"), bytes.len() as u64, total);
        if bytes.len() > MOST {
            return Err(failed("it does not end"));
        }
    }
    Ok(bytes)
}
