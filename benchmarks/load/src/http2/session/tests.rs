// SPDX-License-Identifier: Apache-2.0
//! What is said to servers that do what the standard allows.

use super::super::frame::Frame;
use super::*;

type Sent = (u8, u8, u32, Vec<u8>);

const STREAMS: u16 = 3;
const PAYLOAD: u16 = 5;
const PADDED: u8 = 0x8;
const OK: &[u8] = b"\x00\x0bgrpc-status\x010";
const MESSAGE: &[u8] = b"\x00\x00\x00\x00\x05hello";

/// A session whose server has sent such settings, with its beginning taken off.
fn session(settings: &[(u16, u32)]) -> Outcome<Session<&'static str>> {
    let mut session = Session::new(RequestHeaders::new(&["/a.B/C"], ""))?;
    assert!(!session.is_ready());
    receive(&mut session, &[setting(settings)])?;
    assert!(session.is_ready());
    session.output.clear();
    Ok(session)
}

fn setting(settings: &[(u16, u32)]) -> Sent {
    let bytes = settings.iter().flat_map(|(name, value)| {
        let value = value.to_be_bytes();
        name.to_be_bytes().into_iter().chain(value)
    });
    (frame::SETTINGS, 0, 0, bytes.collect())
}

fn bytes(frames: &[Sent]) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    for (kind, flags, stream, payload) in frames {
        frame::write(&mut bytes, *kind, *flags, *stream, payload)?;
    }
    Ok(bytes)
}

fn receive(session: &mut Session<&'static str>, frames: &[Sent]) -> Outcome<Vec<Answer<&'static str>>> {
    let mut answers = Vec::new();
    let input = bytes(frames)?;
    assert_eq!(session.receive(&input, &mut answers)?, input.len());
    Ok(answers)
}

/// What has been sent since the last time.
fn sent(session: &mut Session<&'static str>) -> Outcome<Vec<Sent>> {
    let output = std::mem::take(&mut session.output);
    let (mut rest, mut frames) = (&output[..], Vec::new());
    while let Some(frame) = Frame::take(&mut rest)? {
        frames.push((frame.kind, frame.flags, frame.stream, frame.payload.to_vec()));
    }
    assert!(rest.is_empty());
    Ok(frames)
}

/// Kinds, flags, streams and sizes of what has been sent.
fn sizes(session: &mut Session<&'static str>) -> Outcome<Vec<(u8, u8, u32, usize)>> {
    let frames = sent(session)?.into_iter();
    Ok(frames
        .map(|(kind, flags, stream, payload)| (kind, flags, stream, payload.len()))
        .collect())
}

/// Streams that have been opened.
fn opened(session: &mut Session<&'static str>) -> Outcome<Vec<u32>> {
    let frames = sent(session)?.into_iter();
    Ok(frames
        .filter(|frame| frame.0 == frame::HEADERS)
        .map(|frame| frame.2)
        .collect())
}

/// A whole answer on a stream.
fn answer(stream: u32) -> Vec<Sent> {
    let trailers = frame::END_HEADERS | frame::END_STREAM;
    vec![
        (frame::HEADERS, frame::END_HEADERS, stream, vec![0x88]),
        (frame::DATA, 0, stream, MESSAGE.to_vec()),
        (frame::HEADERS, trailers, stream, OK.to_vec()),
    ]
}

fn ok(call: &'static str) -> Answer<&'static str> {
    Answer {
        call,
        outcome: Ok(Bytes::from_static(b"hello")),
    }
}

fn failed(call: &'static str, reason: &str, detail: &str) -> Answer<&'static str> {
    let (reason, detail) = (reason.to_owned(), detail.to_owned());
    Answer {
        call,
        outcome: Err(Failure { reason, detail }),
    }
}

fn send(session: &mut Session<&'static str>, size: usize, call: &'static str) -> Outcome<()> {
    session.send(0, vec![7; size], call)
}

#[test]
fn it_begins_with_preface_and_settings_and_answers_settings_and_pings() -> Outcome<()> {
    let mut session = Session::new(RequestHeaders::new(&["/a.B/C"], ""))?;
    session.output.drain(..PREFACE.len());
    assert_eq!(
        sent(&mut session)?,
        [
            (
                frame::SETTINGS,
                0,
                0,
                b"\0\x02\0\0\0\0\0\x04\x7f\xff\xff\xff".to_vec()
            ),
            (frame::WINDOW_UPDATE, 0, 0, b"\x7f\xff\0\0".to_vec())
        ]
    );
    let ping = |flags, payload: &[u8]| (frame::PING, flags, 0, payload.to_vec());
    let unknown = (0xf0, 0xff, 9, b"anything".to_vec());
    let ack = (frame::SETTINGS, frame::ACK, 0, Vec::new());
    let frames = [
        ack.clone(),
        setting(&[(0xf0, 1)]),
        unknown,
        ping(frame::ACK, b"original"),
        ping(0, b"12345678"),
    ];
    assert_eq!(receive(&mut session, &frames)?, []);
    assert_eq!(sent(&mut session)?, [ack, ping(frame::ACK, b"12345678")]);
    Ok(())
}

#[test]
fn an_answer_is_the_same_however_it_is_cut_and_padded() -> Outcome<()> {
    let (first, rest) = OK.split_at(5);
    let frames = [
        (frame::HEADERS, 0, 1, vec![]),
        (frame::CONTINUATION, 0, 1, vec![]),
        (frame::CONTINUATION, frame::END_HEADERS, 1, vec![0x88]),
        (frame::DATA, PADDED, 1, [b"\x03", &MESSAGE[..7], b"..."].concat()),
        (frame::DATA, 0, 1, vec![]),
        (frame::DATA, 0, 1, MESSAGE[7..].to_vec()),
        (
            frame::HEADERS,
            PADDED | frame::END_STREAM,
            1,
            [b"\x01", first, b"."].concat(),
        ),
        (frame::CONTINUATION, 0, 1, rest.to_vec()),
        (frame::CONTINUATION, frame::END_HEADERS, 1, vec![]),
    ];
    let all = bytes(&frames)?;
    for step in [1, 2, 10, all.len()] {
        let mut session = session(&[])?;
        send(&mut session, 3, "call")?;
        let sent = sent(&mut session)?;
        assert_eq!(
            (sent[0].0, sent[0].1, sent[0].2),
            (frame::HEADERS, frame::END_HEADERS, 1)
        );
        assert_eq!(
            sent[1],
            (
                frame::DATA,
                frame::END_STREAM,
                1,
                b"\0\0\0\0\x03\x07\x07\x07".to_vec()
            )
        );
        let (mut answers, mut part) = (Vec::new(), Vec::new());
        for piece in all.chunks(step) {
            part.extend_from_slice(piece);
            let taken = session.receive(&part, &mut answers)?;
            part.drain(..taken);
        }
        assert_eq!((answers, part.len()), (vec![ok("call")], 0), "in steps of {step}");
    }
    Ok(())
}

#[test]
fn failures_come_alone_or_after_a_message() -> Outcome<()> {
    let mut session = session(&[])?;
    let ends = frame::END_HEADERS | frame::END_STREAM;
    let status = b"\x00\x0bgrpc-status\x018\x00\x0cgrpc-message\x04busy".to_vec();
    for call in ["alone", "after", "silent", "empty", "two"] {
        send(&mut session, 1, call)?;
    }
    let two = [MESSAGE, MESSAGE].concat();
    let frames = [
        (frame::HEADERS, ends, 1, status.clone()),
        (frame::DATA, 0, 3, MESSAGE.to_vec()),
        (frame::HEADERS, ends, 3, status),
        (frame::DATA, frame::END_STREAM, 5, MESSAGE.to_vec()),
        (frame::HEADERS, ends, 7, OK.to_vec()),
        (frame::DATA, 0, 9, two),
        (frame::HEADERS, ends, 9, OK.to_vec()),
    ];
    let expected = [
        failed("alone", "grpc-status 8", "busy"),
        failed("after", "grpc-status 8", "busy"),
        failed("silent", "no grpc-status", ""),
        failed("empty", "no message", ""),
        failed("two", "not one uncompressed message", ""),
    ];
    assert_eq!(receive(&mut session, &frames)?, expected);
    Ok(())
}

#[test]
fn more_calls_than_the_server_takes_at_once_wait() -> Outcome<()> {
    let mut session = session(&[(STREAMS, 2)])?;
    for call in ["a", "b", "c", "d"] {
        send(&mut session, 1, call)?;
    }
    assert_eq!(opened(&mut session)?, [1, 3]);
    assert_eq!(receive(&mut session, &answer(3))?, [ok("b")]);
    assert_eq!(opened(&mut session)?, [5]);
    receive(&mut session, &[setting(&[(STREAMS, 3)])])?;
    assert_eq!(opened(&mut session)?, [7]);
    Ok(())
}

#[test]
fn a_large_message_waits_for_windows_and_goes_in_frames_that_the_server_takes() -> Outcome<()> {
    const DATA: u8 = frame::DATA;
    let more = |stream, size: u32| (frame::WINDOW_UPDATE, 0, stream, size.to_be_bytes().to_vec());
    let mut session = session(&[(SETTING_WINDOW, 40_000)])?;
    send(&mut session, 49_995, "large")?;
    let parts = sizes(&mut session)?;
    assert_eq!(
        parts[1..],
        [(DATA, 0, 1, 16_384), (DATA, 0, 1, 16_384), (DATA, 0, 1, 7_232)]
    );
    send(&mut session, 30_000, "next")?;
    let parts = sizes(&mut session)?;
    assert_eq!(
        parts[1..],
        [(DATA, 0, 3, 16_384), (DATA, 0, 3, 9_151)],
        "what the connection's has left"
    );
    receive(&mut session, &[more(0, 5_000)])?;
    assert_eq!(
        sizes(&mut session)?,
        [(DATA, 1, 3, 4_470)],
        "the first has no window of its own"
    );
    receive(&mut session, &[more(0, 20_000), more(1, 100)])?;
    assert_eq!(sizes(&mut session)?, [(DATA, 0, 1, 100)]);
    // By which the first has used 10,000 more than it may.
    receive(
        &mut session,
        &[setting(&[(SETTING_WINDOW, 30_000), (PAYLOAD, 20_000)])],
    )?;
    receive(&mut session, &[more(1, 10_000)])?;
    assert_eq!(sizes(&mut session)?, [(frame::SETTINGS, 1, 0, 0)]);
    receive(&mut session, &[more(1, 20_000)])?;
    assert_eq!(sizes(&mut session)?, [(DATA, 1, 1, 9_900)]);
    assert_eq!(receive(&mut session, &answer(1))?, [ok("large")]);
    assert_eq!(sizes(&mut session)?, [], "nothing to cancel");
    Ok(())
}

#[test]
fn what_is_answered_before_it_was_sent_is_cancelled() -> Outcome<()> {
    let mut session = session(&[(SETTING_WINDOW, 10)])?;
    send(&mut session, 20, "early")?;
    sent(&mut session)?;
    assert_eq!(receive(&mut session, &answer(1))?, [ok("early")]);
    assert_eq!(
        sent(&mut session)?,
        [(frame::RST_STREAM, 0, 1, b"\0\0\0\x08".to_vec())]
    );
    receive(&mut session, &[(frame::WINDOW_UPDATE, 0, 1, vec![0, 0, 0, 50])])?;
    assert_eq!(sent(&mut session)?, []);
    Ok(())
}

#[test]
fn the_window_is_opened_again_once_half_is_used() -> Outcome<()> {
    let mut session = session(&[])?;
    session.used = 0x3fff_fff0;
    let unread = |size| (frame::DATA, 0, 99, vec![0; size]);
    receive(&mut session, &[unread(15)])?;
    assert_eq!(sent(&mut session)?, []);
    receive(&mut session, &[unread(1)])?;
    assert_eq!(
        sent(&mut session)?,
        [(frame::WINDOW_UPDATE, 0, 0, vec![0x40, 0, 0, 0])]
    );
    assert_eq!(session.used, 0);
    Ok(())
}

#[test]
fn a_server_that_goes_away_answers_what_it_took_and_another_gets_the_rest() -> Outcome<()> {
    let mut ending = session(&[(STREAMS, 3)])?;
    for call in ["reset", "taken", "refused", "waiting"] {
        send(&mut ending, 1, call)?;
    }
    let away = [0, 0, 0, 3, 0, 0, 0, 2, b'b', b'y', b'e'].to_vec();
    let reset = (frame::RST_STREAM, 0, 1, vec![0, 0, 0, 7]);
    assert_eq!(
        receive(&mut ending, &[(frame::GOAWAY, 0, 0, away), reset])?,
        [
            failed("refused", "not taken by a server that goes away, code 2", "bye"),
            failed("reset", "reset by the server, code 7", ""),
        ]
    );
    assert!(!ending.is_over());
    assert_eq!(receive(&mut ending, &answer(3))?, [ok("taken")]);
    assert!(ending.is_over());
    assert_eq!(opened(&mut ending)?, [1, 3, 5], "no new ones");
    let mut next = session(&[])?;
    next.take_over(&mut ending)?;
    assert_eq!(opened(&mut next)?, [1]);
    assert_eq!(receive(&mut next, &answer(1))?, [ok("waiting")]);
    Ok(())
}

#[test]
fn after_the_last_number_of_a_stream_the_connection_is_over() -> Outcome<()> {
    let mut session = session(&[])?;
    session.next_stream = STREAM_MAX;
    send(&mut session, 1, "last")?;
    send(&mut session, 1, "waiting")?;
    assert_eq!(opened(&mut session)?, [STREAM_MAX]);
    assert_eq!(receive(&mut session, &answer(STREAM_MAX))?, [ok("last")]);
    assert!(session.is_over());
    let mut answers = Vec::new();
    session.fail("closed", &mut answers);
    assert_eq!(answers, [failed("waiting", "closed", "")]);
    Ok(())
}

#[test]
fn what_the_standard_forbids_ends_the_connection() -> Outcome<()> {
    let begun = (frame::HEADERS, 0, 1, vec![0x88]);
    let end = |stream| (frame::CONTINUATION, frame::END_HEADERS, stream, vec![]);
    for (why, frames) in [
        ("an end without headers", vec![end(1)]),
        (
            "another frame before the end",
            vec![begun.clone(), (frame::DATA, 0, 1, vec![])],
        ),
        ("the end on another stream", vec![begun, end(3)]),
        (
            "a push",
            vec![(frame::PUSH_PROMISE, frame::END_HEADERS, 1, vec![0, 0, 0, 2])],
        ),
        ("half a setting", vec![(frame::SETTINGS, 0, 0, vec![0, 3, 0])]),
        ("no window", vec![(frame::WINDOW_UPDATE, 0, 0, vec![1])]),
        (
            "an unknown header",
            vec![(frame::HEADERS, frame::END_HEADERS, 1, vec![0xff, 0x00])],
        ),
    ] {
        assert!(receive(&mut session(&[])?, &frames).is_err(), "{why}");
    }
    Ok(())
}
