// SPDX-License-Identifier: Apache-2.0
//! The examples of RFC 7541, appendix C.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|digit| *digit != b' ').collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16).unwrap_or_default())
        .collect()
}

fn decoded(decoder: &mut Decoder, hex: &str) -> Outcome<Vec<String>> {
    let mut fields = Vec::new();
    decoder.decode(&bytes(hex), |name, value| {
        let [name, value] = [name, value].map(String::from_utf8_lossy);
        fields.push(format!("{name}: {value}"));
    })?;
    Ok(fields)
}

/// What the table holds, the last one first.
fn table(decoder: &Decoder) -> Vec<String> {
    let texts = decoder.table.iter().map(|field| [&field.name, &field.value]);
    texts
        .map(|texts| texts.map(|text| String::from_utf8_lossy(text)).join(": "))
        .collect()
}

#[test]
fn integers_of_the_standard() -> Outcome<()> {
    assert_eq!(integer(&mut &[0b1110_1010][..], 5)?, 10, "C.1.1");
    assert_eq!(
        integer(&mut &[0b0001_1111, 0b1001_1010, 0b0000_1010][..], 5)?,
        1_337,
        "C.1.2"
    );
    assert_eq!(integer(&mut &[42][..], 8)?, 42, "C.1.3");
    assert!(integer(&mut &[0x1f, 0xff][..], 5).is_err(), "cut off");
    assert!(
        integer(&mut &[0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f][..], 5).is_err(),
        "without end"
    );
    Ok(())
}

#[test]
fn single_fields_of_the_standard() -> Outcome<()> {
    for (name, hex, field, held) in [
        (
            "C.2.1",
            "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
            "custom-key: custom-header",
            1,
        ),
        (
            "C.2.2",
            "040c 2f73 616d 706c 652f 7061 7468",
            ":path: /sample/path",
            0,
        ),
        (
            "C.2.3",
            "1008 7061 7373 776f 7264 0673 6563 7265 74",
            "password: secret",
            0,
        ),
        ("C.2.4", "82", ":method: GET", 0),
    ] {
        let mut decoder = Decoder::new();
        assert_eq!(decoded(&mut decoder, hex)?, [field], "{name}");
        assert_eq!(decoder.table.len(), held, "{name}");
    }
    Ok(())
}

#[test]
fn requests_of_the_standard_plain_and_by_huffman() -> Outcome<()> {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let huffman = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for requests in [plain, huffman] {
        let mut decoder = Decoder::new();
        let [first, second, third] = requests;
        let begin = [
            ":method: GET",
            ":scheme: http",
            ":path: /",
            ":authority: www.example.com",
        ];
        assert_eq!(decoded(&mut decoder, first)?, begin);
        assert_eq!(
            decoded(&mut decoder, second)?,
            [&begin[..], &["cache-control: no-cache"]].concat()
        );
        assert_eq!(
            decoded(&mut decoder, third)?,
            [
                ":method: GET",
                ":scheme: https",
                ":path: /index.html",
                ":authority: www.example.com",
                "custom-key: custom-value",
            ]
        );
        assert_eq!(
            table(&decoder),
            [
                "custom-key: custom-value",
                "cache-control: no-cache",
                ":authority: www.example.com"
            ]
        );
        assert_eq!(decoder.size, 164);
    }
    Ok(())
}

#[test]
fn responses_of_the_standard_push_older_fields_out() -> Outcome<()> {
    let plain = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f \
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b \
         2076 6572 7369 6f6e 3d31",
    ];
    let huffman = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 \
         8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 \
         dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let cookie = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    for responses in [plain, huffman] {
        let mut decoder = Decoder::new();
        decoder.size_max = 256;
        let [first, second, third] = responses;
        let rest = [
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com",
        ];
        assert_eq!(
            decoded(&mut decoder, first)?,
            [&[":status: 302"], &rest[..]].concat()
        );
        assert_eq!(decoder.size, 222);
        assert_eq!(
            decoded(&mut decoder, second)?,
            [&[":status: 307"], &rest[..]].concat()
        );
        assert_eq!(decoder.size, 222, "the first status has gone");
        let date = "date: Mon, 21 Oct 2013 20:13:22 GMT";
        assert_eq!(
            decoded(&mut decoder, third)?,
            [
                ":status: 200",
                rest[0],
                date,
                rest[2],
                "content-encoding: gzip",
                cookie
            ]
        );
        assert_eq!(table(&decoder), [cookie, "content-encoding: gzip", date]);
        assert_eq!(decoder.size, 215);
    }
    Ok(())
}

#[test]
fn a_smaller_table_forgets_and_a_larger_one_than_allowed_is_refused() -> Outcome<()> {
    let mut decoder = Decoder::new();
    decoded(
        &mut decoder,
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
    )?;
    assert_eq!(
        decoded(&mut decoder, "20 3fe1 1f be")
            .err()
            .map(|error| error.to_string())
            .as_deref(),
        Some("header 62 of a table of 0")
    );
    assert!(decoded(&mut decoder, "3fe2 1f").is_err(), "4,097 bytes");
    Ok(())
}
