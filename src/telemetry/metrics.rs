//! The metrics of one run.

use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, Pipeline, SdkMeterProvider, Temporality as SdkTemporality,
};

use super::settings::Temporality;
use super::spans::{all_input_tokens, result_word};
use crate::redact::Redactor;
use crate::task::{Outcome, Verdict};

/// The limits of the buckets of token counts. OpenTelemetry's semantic conventions recommend them.
const TOKEN_BUCKETS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// The limits of the buckets of durations, in seconds.
const DURATION_BUCKETS: [f64; 13] = [
    1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 14_400.0, 86_400.0,
];

/// Gives the meter provider a reader that [`of_run`] uses too.
#[derive(Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> SdkTemporality {
        self.0.temporality(kind)
    }
}

/// The metrics of a run, as a message of OTLP; `None` if the SDK cannot collect them.
pub fn of_run(
    outcome: &Outcome,
    project: &str,
    temporality: Temporality,
    resource: Resource,
    redactor: &Redactor,
) -> Option<ExportMetricsServiceRequest> {
    let temporality = match temporality {
        Temporality::Cumulative => SdkTemporality::Cumulative,
        Temporality::Delta => SdkTemporality::Delta,
    };
    let reader = ManualReader::builder().with_temporality(temporality);
    let reader = Arc::new(reader.build());
    let provider = SdkMeterProvider::builder()
        .with_reader(SharedReader(Arc::clone(&reader)))
        .with_resource(resource)
        .build();
    record(&provider, outcome, project, redactor);
    let mut metrics = ResourceMetrics::default();
    reader.collect(&mut metrics).ok()?;
    Some(ExportMetricsServiceRequest::from(&metrics))
}

/// Records the run, its duration, and the cost and the tokens of its agent.
fn record(provider: &SdkMeterProvider, outcome: &Outcome, project: &str, redactor: &Redactor) {
    let meter = provider.meter(env!("CARGO_PKG_NAME"));
    let mut run_attributes = vec![
        KeyValue::new("cicd.pipeline.name", redactor.mask(project)),
        KeyValue::new("cicd.pipeline.result", result_word(&outcome.verdict)),
    ];
    if let Verdict::Failed(failure) = &outcome.verdict {
        run_attributes.push(KeyValue::new("error.type", failure.reason.word()));
    }
    let runs = meter.u64_counter("descartes.runs").with_unit("{run}");
    let runs = runs.with_description("Runs that have ended");
    runs.build().add(1, &run_attributes);
    let duration = meter
        .f64_histogram("cicd.pipeline.run.duration")
        .with_unit("s");
    let duration =
        duration.with_description("Duration of a run, from the granted claim to the verdict");
    let mut duration_attributes = run_attributes;
    duration_attributes.push(KeyValue::new("cicd.pipeline.run.state", "executing"));
    duration
        .with_boundaries(DURATION_BUCKETS.to_vec())
        .build()
        .record(outcome.report.duration.as_secs_f64(), &duration_attributes);
    let Some(agent) = &outcome.report.agent else {
        return;
    };
    let mut agent_attributes = vec![
        KeyValue::new("gen_ai.operation.name", "invoke_agent"),
        KeyValue::new("gen_ai.agent.name", agent.kind),
    ];
    if let Some(model) = &agent.model {
        agent_attributes.push(KeyValue::new("gen_ai.request.model", redactor.mask(model)));
    }
    if let Some(cost) = agent.spent.cost_usd {
        let costs = meter.f64_counter("descartes.cost").with_unit("{USD}");
        let costs = costs.with_description("What agents have cost, as they calculate it");
        costs.build().add(cost, &agent_attributes);
    }
    let Some(usage) = agent.spent.usage else {
        return;
    };
    let tokens = meter
        .u64_histogram("gen_ai.client.token.usage")
        .with_unit("{token}");
    let tokens = tokens.with_description("Tokens of a run; input includes cached tokens");
    let tokens = tokens.with_boundaries(TOKEN_BUCKETS.to_vec()).build();
    let cached_tokens = meter
        .u64_counter("descartes.cached_tokens")
        .with_unit("{token}");
    let cached_tokens =
        cached_tokens.with_description("Tokens that were read from the cache or written to it");
    let cached_tokens = cached_tokens.build();
    let with = |key: &'static str, value: &'static str| {
        let mut attributes = agent_attributes.clone();
        attributes.push(KeyValue::new(key, value));
        attributes
    };
    for (kind, number) in [
        ("input", all_input_tokens(usage)),
        ("output", usage.output_tokens),
    ] {
        if let Some(number) = number {
            tokens.record(number, &with("gen_ai.token.type", kind));
        }
    }
    for (kind, number) in [
        ("read", usage.cache_read_input_tokens),
        ("creation", usage.cache_creation_input_tokens),
    ] {
        if let Some(number) = number {
            cached_tokens.add(number, &with("descartes.cache.operation", kind));
        }
    }
}
