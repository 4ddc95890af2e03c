//! Queues that are found anew at every tick: by the beginning of their names, or by a tag.

use aws_sdk_resourcegroupstagging::Client as Tags;
use aws_sdk_resourcegroupstagging::types::TagFilter;
use aws_sdk_sqs::Client;
use serde_json::json;

use super::{KIND, Queue};
use crate::adapter::Identity;
use crate::aws::{AnswerLimit, failure};
use crate::error::{Error, ErrorKind, Result};
use crate::iam::{Place, Statement};
use crate::shared::Shared;

/// Most queues of one source: each is a call at every tick.
const MOST: usize = 100;

/// Which queues to find.
#[derive(Debug, Clone)]
pub(super) struct Found {
    region: String,
    by: By,
}

#[derive(Debug, Clone)]
enum By {
    Prefix(String),
    Tag { key: String, value: Option<String> },
}

impl Found {
    pub fn by_prefix(prefix: &str, region: &str) -> Self {
        Self { region: region.to_owned(), by: By::Prefix(prefix.to_owned()) }
    }

    /// `KEY=VALUE` or `KEY`.
    pub fn by_tag(tag: &str, region: &str) -> Self {
        let (key, value) = match tag.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (tag.to_owned(), None),
        };
        Self { region: region.to_owned(), by: By::Tag { key, value } }
    }

    /// For allow-lists: `sqs:eu-west-1/-/orders-*` or `sqs:eu-west-1/-/tag:team=blue`.
    pub fn identity(&self) -> Identity {
        let name = match &self.by {
            By::Prefix(prefix) => format!("{prefix}*"),
            By::Tag { key, value: Some(value) } => format!("tag:{key}={value}"),
            By::Tag { key, value: None } => format!("tag:{key}"),
        };
        Identity { provider: KIND.name, region: self.region.clone(), account: None, path: vec![name] }
    }

    pub fn permissions(&self, place: &Place) -> Vec<Statement> {
        let place = Place::new(&self.region, &place.account);
        let queues = |name: &str| vec![format!("arn:{}:sqs:{}:{}:{name}", place.partition, self.region, place.account)];
        match &self.by {
            By::Prefix(prefix) => vec![
                Statement::allow("FindQueues", &["sqs:ListQueues"], vec!["*".to_owned()]),
                Statement::allow("ReadQueue", &["sqs:GetQueueAttributes"], queues(&format!("{prefix}*"))),
            ],
            By::Tag { key, value } => {
                let read = &["sqs:GetQueueAttributes", "sqs:GetQueueUrl"];
                let mut reads = Statement::allow("ReadTaggedQueue", read, queues("*"));
                let value = value.as_deref().unwrap_or("*");
                reads.condition = Some(json!({ "StringLike": { format!("aws:ResourceTag/{key}"): value } }));
                vec![Statement::allow("FindQueues", &["tag:GetResources"], vec!["*".to_owned()]), reads]
            }
        }
    }

    pub fn finder(self, shared: &Shared) -> Finder {
        let sdk = shared.aws.sdk(&self.region);
        let sqs = aws_sdk_sqs::config::Builder::from(&sdk).interceptor(AnswerLimit).build();
        let tags = aws_sdk_resourcegroupstagging::config::Builder::from(&sdk).interceptor(AnswerLimit).build();
        Finder { sqs: Client::from_conf(sqs), tags: Tags::from_conf(tags), found: self }
    }
}

/// Finds queues.
#[derive(Debug)]
pub(super) struct Finder {
    sqs: Client,
    tags: Tags,
    found: Found,
}

impl Finder {
    /// The queues there are now, at least one.
    ///
    /// # Errors
    /// `NotFound` where there is none: a name that changed must not look like an empty queue. `Config` for more than 100.
    pub async fn queues(&self) -> Result<Vec<(Client, Queue)>> {
        let given = match &self.found.by {
            By::Prefix(prefix) => self.by_prefix(prefix).await?,
            By::Tag { key, value } => self.by_tag(key, value.as_deref()).await?,
        };
        if given.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, self.during(), "there is none; check the name and the region"));
        }
        if MOST < given.len() {
            let cause = format!("there are more than {MOST}; name fewer, or make several sources of them");
            return Err(Error::new(ErrorKind::Config, self.during(), cause));
        }
        let queue = |given: &String| {
            let malformed = || Error::new(ErrorKind::Malformed, self.during(), format!("{given:?} is no queue"));
            Queue::parse(given, &self.found.region).map(|queue| (self.sqs.clone(), queue)).ok_or_else(malformed)
        };
        given.iter().map(queue).collect()
    }

    fn during(&self) -> String {
        format!("finding the queues {:?}", self.found.identity().leaf())
    }

    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ListQueues.html>
    async fn by_prefix(&self, prefix: &str) -> Result<Vec<String>> {
        let (mut urls, mut next) = (Vec::new(), None);
        while urls.len() <= MOST {
            let ask = self.sqs.list_queues().queue_name_prefix(prefix).max_results(1000).set_next_token(next);
            let answer = ask.send().await.map_err(|error| failure("sqs:ListQueues", self.during(), error))?;
            urls.extend_from_slice(answer.queue_urls());
            match answer.next_token() {
                Some(token) => next = Some(token.to_owned()),
                None => break,
            }
        }
        // Names are compared without regard to case by nobody but some emulators.
        urls.retain(|url| url.rsplit('/').next().is_some_and(|name| name.starts_with(prefix)));
        Ok(urls)
    }

    /// <https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html>
    async fn by_tag(&self, key: &str, value: Option<&str>) -> Result<Vec<String>> {
        let filter = TagFilter::builder().key(key).set_values(value.map(|value| vec![value.to_owned()])).build();
        let (mut arns, mut next) = (Vec::new(), None);
        while arns.len() <= MOST {
            let ask = self.tags.get_resources().tag_filters(filter.clone()).resource_type_filters("sqs");
            let answer = ask.resources_per_page(100).set_pagination_token(next).send().await;
            let answer = answer.map_err(|error| failure("tag:GetResources", self.during(), error))?;
            let found = answer.resource_tag_mapping_list().iter().filter_map(|found| found.resource_arn());
            arns.extend(found.map(str::to_owned));
            match answer.pagination_token().filter(|token| !token.is_empty()) {
                Some(token) => next = Some(token.to_owned()),
                None => break,
            }
        }
        Ok(arns)
    }
}
