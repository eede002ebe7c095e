// SPDX-License-Identifier: Apache-2.0
//! Which shape an answer has: chosen by the API that gave it, never by the model. The same model counts differently
//! behind different APIs.

use super::openai::{Answer, Reasoning, Shape};

/// The APIs that are told apart.
#[derive(Debug, Clone, Copy)]
pub(super) enum Api {
    /// In the shape of `OpenAI`.
    OpenAi(Shape),
    /// As above; what tools did is not in the usage but in the output.
    Responses(Shape),
    /// As above; the usage sums up the calls of a batch.
    Batch(Shape),
    /// As above; each of a session's responses has a usage of its own.
    Realtime(Shape),
    Transcription(Shape),
    OpenAiReport,
    Messages,
    GenerateContent,
    Interactions,
    Converse,
    Invoke(Shape),
    Cohere,
    Ollama,
    Xai,
    Otel,
}

/// Providers with rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    /// Follows `OpenAI` as documented.
    OpenAi,
    /// Follows `OpenAI`; where its reasoning stands is told by the total.
    Compatible,
    Anthropic,
    Bedrock,
    Google,
    Cohere,
    Ollama,
    Perplexity,
    Xai,
    MiniMax,
    Cursor,
    Otel,
}

/// Names of providers, as `OpenTelemetry` has them and as they are commonly written, without anything but letters and
/// digits.
const PROVIDERS: [(Provider, &[&str]); 12] = [
    (
        Provider::OpenAi,
        &[
            "openai",
            "azure",
            "azureopenai",
            "azureaiopenai",
            "azureaiinference",
            "azureai",
            "openaicompatible",
        ],
    ),
    (
        Provider::Compatible,
        &[
            "ai21",
            "alibaba",
            "aliyun",
            "anyscale",
            "baseten",
            "baidu",
            "bytedance",
            "cerebras",
            "cloudflare",
            "dashscope",
            "databricks",
            "deepinfra",
            "deepseek",
            "fireworks",
            "fireworksai",
            "friendliai",
            "github",
            "githubmodels",
            "groq",
            "huggingface",
            "hyperbolic",
            "ibmwatsonxai",
            "inceptionlabs",
            "lambda",
            "lambdaai",
            "litellm",
            "llamacpp",
            "llamafile",
            "lmstudio",
            "meta",
            "metallama",
            "mistral",
            "mistralai",
            "modal",
            "moonshot",
            "moonshotai",
            "nebius",
            "novita",
            "novitaai",
            "nscale",
            "nvidia",
            "nvidianim",
            "oci",
            "openrouter",
            "ovhcloud",
            "parasail",
            "portkey",
            "qwen",
            "reka",
            "replicate",
            "sagemaker",
            "sambanova",
            "scaleway",
            "sglang",
            "siliconflow",
            "snowflake",
            "stepfun",
            "tencent",
            "tgi",
            "together",
            "togetherai",
            "upstage",
            "vercel",
            "vercelaigateway",
            "vllm",
            "volcengine",
            "voyage",
            "voyageai",
            "watsonx",
            "writer",
            "zai",
            "zhipu",
            "zhipuai",
        ],
    ),
    (Provider::Anthropic, &["anthropic", "claude"]),
    (
        Provider::Bedrock,
        &["awsbedrock", "bedrock", "amazonbedrock", "aws"],
    ),
    (
        Provider::Google,
        &[
            "google",
            "gcp",
            "gcpgemini",
            "gcpvertexai",
            "gcpgenai",
            "gemini",
            "vertex",
            "vertexai",
            "googlevertex",
            "googlevertexai",
            "googlegemini",
            "googleai",
            "googlegenai",
            "googleaistudio",
        ],
    ),
    (Provider::Cohere, &["cohere"]),
    (Provider::Ollama, &["ollama"]),
    (Provider::Perplexity, &["perplexity", "perplexityai"]),
    (Provider::Xai, &["xai", "grok"]),
    (Provider::MiniMax, &["minimax"]),
    (Provider::Cursor, &["cursor"]),
    (Provider::Otel, &["otel", "opentelemetry"]),
];

/// What may stand before the name of an API: versions, and the places that paths and clients put it in.
const PREFIXES: [&str; 10] = [
    "v1beta1", "v1beta", "v1", "v2", "api", "beta", "models", "openai", "grpc", "stream",
];
/// What may stand behind it: a method of an SDK, the object that was read, and the word itself.
const SUFFIXES: [&str; 9] = [
    "create", "process", "parse", "start", "append", "complete", "stream", "usage", "api",
];

/// Which name is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Provider,
    Api,
}

/// The API of an answer, by the names that the caller gives.
pub(super) fn find(provider: &str, api: &str) -> Result<Api, Unknown> {
    let name = Letters::of(provider);
    let provider = PROVIDERS
        .iter()
        .find(|(_, names)| names.contains(&name.as_str()))
        .map(|(provider, _)| *provider)
        .ok_or(Unknown::Provider)?;
    // What stands in parentheses is a remark.
    let api = Letters::of(api.split('(').next().unwrap_or_default());
    let mut api = api.as_str();
    loop {
        if let Some(found) = of_provider(provider, api).or_else(|| shared(provider, api)) {
            return Ok(found);
        }
        let mut suffixes = SUFFIXES.iter();
        let shorter = PREFIXES
            .iter()
            .find_map(|prefix| api.strip_prefix(prefix))
            .or_else(|| suffixes.find_map(|suffix| api.strip_suffix(suffix)));
        api = shorter.ok_or(Unknown::Api)?;
    }
}

/// APIs that one provider has alone, and those that it names like others but shapes otherwise.
fn of_provider(provider: Provider, api: &str) -> Option<Api> {
    match (provider, api) {
        (Provider::Otel, "" | "attributes" | "genai") => Some(Api::Otel),
        (
            Provider::Google,
            "generatecontent"
            | "generatecontentstream"
            | "streamgeneratecontent"
            | "live"
            | "bidigeneratecontent"
            | "generatecontentlive"
            | "livebidigeneratecontent"
            | "embedcontent"
            | "batchgeneratecontent",
        ) => Some(Api::GenerateContent),
        (Provider::Google, "interactions") => Some(Api::Interactions),
        // The fields of batches and of "chat", the operation, are those of the messages, and so is their meaning:
        // others put the cache into the input. Claude on Vertex.
        (Provider::Anthropic, "chat" | "batch" | "batches" | "messagebatches")
        | (Provider::Anthropic | Provider::Google, "rawpredict" | "streamrawpredict") => Some(Api::Messages),
        (Provider::Bedrock, "converse" | "conversestream" | "chat")
        | (Provider::Cursor, "usageevents" | "events" | "usage") => Some(Api::Converse),
        (
            Provider::Bedrock,
            "invoke" | "invokemodel" | "invokemodelwithresponsestream" | "invokestream" | "textcompletion",
        ) => Some(Api::Invoke(shape(provider, Answer::Text))),
        (
            Provider::Cohere,
            "chat" | "chatv1" | "chatv2" | "v1chat" | "v2chat" | "chatstream" | "embed" | "embeddings"
            | "v1embed" | "v2embed" | "rerank" | "v1rerank" | "v2rerank" | "classify" | "generate" | "parse",
        ) => Some(Api::Cohere),
        (
            Provider::Ollama,
            "chat" | "generate" | "apichat" | "apigenerate" | "apiembed" | "embed" | "textcompletion",
        ) => Some(Api::Ollama),
        (
            Provider::Xai,
            "sampling" | "samplingusage" | "grpc" | "grpcchat" | "chatgrpc" | "getcompletion"
            | "getcompletionchunk",
        ) => Some(Api::Xai),
        (
            Provider::OpenAi,
            "organizationusage"
            | "organizationusagecompletions"
            | "usage"
            | "usagecompletions"
            | "adminusage"
            | "adminorganizationusage"
            | "adminorganizationusagecompletions"
            | "admin",
        ) => Some(Api::OpenAiReport),
        _ => None,
    }
}

/// APIs that many providers have.
fn shared(provider: Provider, api: &str) -> Option<Api> {
    if matches!(
        api,
        "genaispanattributes" | "genaispan" | "spanattributes" | "span" | "spans" | "otel" | "opentelemetry"
    ) {
        // Inclusive whoever the provider is, and the provider's own name is what prices are found by.
        return Some(Api::Otel);
    }
    if matches!(provider, Provider::Otel | Provider::Cursor) {
        return None;
    }
    let of = |answer| shape(provider, answer);
    let found = match api {
        "chatcompletions"
        | "chatcompletion"
        | "chatcompletionsstream"
        | "chatcomplete"
        | "chatstream"
        | "chat"
        | "completions"
        | "completion"
        | "textcompletion"
        | "openaicompatchat"
        | "openaicompat"
        | "openaichat"
        | "openaichatcompletions"
        | "fimcompletions"
        | "fim"
        | "conversations"
        | "agents"
        | "agentscompletions"
        | "ocr"
        | "moderations" => Api::OpenAi(of(Answer::Text)),
        "realtime" | "realtimeresponse" | "realtimeresponsedone" => Api::Realtime(of(Answer::Text)),
        "responses" | "responsesstream" => Api::Responses(Shape {
            // Unlike the chat completions of some, this output includes reasoning as documented.
            reasoning: match provider {
                Provider::OpenAi => Reasoning::Inside,
                _ => Reasoning::InsideUnlessTotal,
            },
            ..of(Answer::Text)
        }),
        "embeddings" | "embedding" | "embed" | "rerank" => Api::OpenAi(of(Answer::None)),
        "images" | "imagesgenerate" | "imagesgenerations" | "imagesedit" | "imagesedits"
        | "imagegeneration" => Api::OpenAi(of(Answer::Image)),
        "audiospeech" | "speech" => Api::OpenAi(of(Answer::Audio)),
        "audiotranscriptions"
        | "audiotranscription"
        | "transcriptions"
        | "transcription"
        | "audiotranslations" => Api::Transcription(of(Answer::Text)),
        "batch" | "batches" => Api::Batch(of(Answer::Text)),
        "messages" | "messagesstream" | "messagesbeta" | "betamessages" | "messagesbatch"
        | "messagesbatches" | "anthropicmessages" => Api::Messages,
        _ => return None,
    };
    Some(found)
}

const fn shape(provider: Provider, answer: Answer) -> Shape {
    Shape {
        reasoning: match provider {
            Provider::OpenAi => Reasoning::Inside,
            Provider::Perplexity => Reasoning::Beside,
            Provider::Xai | Provider::Google => Reasoning::BesideUnlessTotal,
            _ => Reasoning::InsideUnlessTotal,
        },
        answer,
        prompt_excludes_cache: matches!(provider, Provider::MiniMax),
    }
}

/// The letters and digits of a name, in lower case, without allocating. Names that are longer than any are cut.
struct Letters {
    bytes: [u8; Self::SIZE],
    count: usize,
}

impl Letters {
    const SIZE: usize = 40;

    fn of(name: &str) -> Self {
        let mut letters = Self {
            bytes: [0; Self::SIZE],
            count: 0,
        };
        let bytes = name.bytes().filter(u8::is_ascii_alphanumeric);
        for (slot, byte) in letters.bytes.iter_mut().zip(bytes) {
            *slot = byte.to_ascii_lowercase();
            letters.count = letters.count.saturating_add(1);
        }
        letters
    }

    fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.count).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}
