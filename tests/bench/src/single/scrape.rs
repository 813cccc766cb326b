//! The node's metrics page, as numbers.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The series without labels, by name.
#[derive(Default)]
pub(super) struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// Asks the node that serves administration at `address`, host and port.
    pub(super) async fn of(address: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        ensure!(
            response.starts_with("HTTP/1.1 200"),
            "GET /metrics: {}",
            response.lines().next().unwrap_or("")
        );
        Ok(Self::parse(&response))
    }

    fn parse(page: &str) -> Self {
        let series = page.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    /// By how much a counter grew; 0 where there is none.
    pub(super) fn grown(&self, earlier: &Metrics, name: &str) -> f64 {
        let of = |metrics: &Metrics| metrics.0.get(name).copied().unwrap_or_default();
        of(self) - of(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_from_the_rest_of_a_page() {
        let page =
            |count: u32| Metrics::parse(&format!("# TYPE a counter\nHTTP/1.1 200 OK\na_total {count}\n"));
        assert_eq!(page(7).grown(&page(3), "a_total"), 4.0);
        assert_eq!(page(7).grown(&page(3), "b_total"), 0.0);
    }
}
