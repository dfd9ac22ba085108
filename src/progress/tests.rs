//! Tests which phases, numbers and parts of the output are stored.

use super::*;

#[tokio::test(start_paused = true)]
async fn at_most_max_phases_are_stored_with_their_starts() {
    let progress = Progress::new();
    tokio::time::sleep(Duration::from_secs(3)).await;
    progress.enter(Phase::Agent);
    progress.enter(Phase::Agent);
    tokio::time::sleep(Duration::from_secs(4)).await;
    progress.enter(Phase::Checks);
    let found = progress.phases();
    let found: Vec<_> = found
        .iter()
        .map(|start| (start.phase, start.since_claim.as_secs()))
        .collect();
    assert_eq!(found, [("preparing", 0), ("agent", 3), ("checks", 7)]);
    for _ in 0..MAX_PHASES {
        progress.enter(Phase::Agent);
        progress.enter(Phase::Checks);
    }
    assert_eq!(progress.phases().len(), MAX_PHASES);
}

#[test]
fn the_larger_cost_and_usage_of_agent_and_gateway_is_reported() {
    let spent = |cost_usd, tokens| UsageAndCost {
        cost_usd: Some(cost_usd),
        usage: Some(crate::model::Usage {
            output_tokens: Some(tokens),
            ..crate::model::Usage::default()
        }),
        ..UsageAndCost::default()
    };
    let progress = Progress::new();
    // In the second round, the agent has reported only the first one so far.
    progress.set_spent(UsageAndCost {
        turns: Some(3),
        ..spent(0.25, 100)
    });
    progress.set_gateway_totals(spent(0.75, 300));
    let found = progress.snapshot().spent;
    assert_eq!(
        found,
        UsageAndCost {
            turns: Some(3),
            ..spent(0.75, 300)
        }
    );
    progress.set_spent(spent(1.0, 400));
    assert_eq!(progress.snapshot().spent, spent(1.0, 400));
}

#[test]
fn short_output_is_only_in_the_tail() {
    let progress = Progress::new();
    progress.add_output(b"hello");
    let output = progress.output();
    assert_eq!((output.head.as_str(), output.tail.as_str()), ("", "hello"));
    assert_eq!((output.total_bytes, output.dropped_bytes), (5, 0));
}

#[test]
fn both_ends_of_long_output_are_stored_and_the_middle_is_counted() {
    let progress = Progress::new();
    let all: Vec<u8> = (0..100_000u32).map(|n| b'a' + (n % 26) as u8).collect();
    for chunk in all.chunks(777) {
        progress.add_output(chunk);
    }
    let output = progress.output();
    assert_eq!(output.head.as_bytes(), &all[..HEAD_SIZE]);
    assert_eq!(output.tail.as_bytes(), &all[all.len() - TAIL_SIZE..]);
    assert_eq!(output.total_bytes, 100_000);
    assert_eq!(
        output.dropped_bytes,
        (100_000 - HEAD_SIZE - TAIL_SIZE) as u64
    );
}

#[test]
fn head_and_tail_never_overlap_while_the_output_grows() {
    let progress = Progress::new();
    for total in 1..=(HEAD_SIZE + TAIL_SIZE + 100) as u64 {
        progress.add_output(b"x");
        let output = progress.output();
        let stored = (output.head.len() + output.tail.len()) as u64;
        assert_eq!(stored + output.dropped_bytes, total);
        assert_eq!(
            output.dropped_bytes,
            total.saturating_sub((HEAD_SIZE + TAIL_SIZE) as u64)
        );
    }
}

#[test]
fn consecutive_windows_have_no_gap_and_no_overlap() {
    let progress = Progress::new();
    let mut sent = String::new();
    for (index, chunk) in "zwölf Boxkämpfer → jagen 😀 Viktor"
        .as_bytes()
        .chunks(1)
        .enumerate()
    {
        progress.add_output(chunk);
        if index % 3 == 0 {
            let window = progress.take_output_window();
            assert_eq!(window.offset, sent.len() as u64);
            sent += &window.text;
        }
    }
    sent += &progress.take_output_window().text;
    assert_eq!(sent, "zwölf Boxkämpfer → jagen 😀 Viktor");
}

#[test]
fn a_window_counts_the_bytes_that_were_dropped_before_it() {
    let progress = Progress::new();
    progress.add_output(&vec![b'a'; OUTPUT_WINDOW_SIZE]);
    progress.add_output(&[b'b'; 100]);
    let window = progress.take_output_window();
    assert_eq!((window.offset, window.dropped_bytes), (100, 100));
    assert_eq!(window.text.len(), OUTPUT_WINDOW_SIZE);
    assert_eq!(progress.take_output_window().dropped_bytes, 0);
}

#[test]
fn an_incomplete_character_is_recognized_by_its_length() {
    assert_eq!(incomplete_suffix_length(b"ab"), 0);
    assert_eq!(incomplete_suffix_length("ä".as_bytes()), 0);
    assert_eq!(incomplete_suffix_length(&"ä".as_bytes()[..1]), 1);
    assert_eq!(incomplete_suffix_length(&"€€".as_bytes()[..5]), 2);
    assert_eq!(incomplete_suffix_length(&"😀".as_bytes()[..3]), 3);
    assert_eq!(incomplete_suffix_length(&[0x80, 0x80, 0x80, 0x80]), 0);
    assert_eq!(incomplete_suffix_length(&[0xFF]), 0);
}

#[test]
fn a_window_of_invalid_bytes_has_at_most_one_character_for_each_byte() {
    let progress = Progress::new();
    progress.add_output(&vec![0xFF; OUTPUT_WINDOW_SIZE + 10]);
    let window = progress.take_output_window();
    assert_eq!(window.text.chars().count(), OUTPUT_WINDOW_SIZE);
    assert_eq!(window.text.len(), 3 * OUTPUT_WINDOW_SIZE);
    assert_eq!(
        (window.bytes, window.offset),
        (OUTPUT_WINDOW_SIZE as u64, 10)
    );
    assert_eq!(window.dropped_bytes, 10);
    let next = b"next";
    progress.add_output(next);
    let window = progress.take_output_window();
    assert_eq!(window.offset, OUTPUT_WINDOW_SIZE as u64 + 10);
    assert_eq!(window.text.as_bytes(), next);
}
