//! Reads JSON text (RFC 8259) strictly and exactly.
//!
//! `serde_json` reads some doubles one or more units in the last place off, unless the whole build
//! agrees on a feature of it. A stored number would then change each time it is written and read, and
//! replicas that did so more or less often would differ. Here a number is read by the standard
//! library, whose result is exact and whatever `serde_json` prints reads back as itself.
//!
//! Stricter than most readers: an object that names a key twice is refused, since readers disagree on
//! which of the two counts.

use serde_json::{Map, Number, Value};

use super::InvalidJson;

/// Reads a text of one value, with arrays and objects nested at most `levels` deep, of at most so
/// many `values`.
pub(super) fn read(text: &str, levels: usize, values: usize) -> Result<Value, InvalidJson> {
    let mut reader = Reader {
        text,
        at: 0,
        values,
        left: values,
    };
    reader.skip_space();
    let value = reader.value(levels)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.unexpected("the end"));
    }
    Ok(value)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// How many values there may be, and how many more.
    values: usize,
    left: usize,
}

impl Reader<'_> {
    fn value(&mut self, levels: usize) -> Result<Value, InvalidJson> {
        let limit = self.values;
        let left = self.left.checked_sub(1);
        self.left = left.ok_or(InvalidJson::TooManyValues { limit })?;
        match self.peek() {
            Some(b'{') => self.object(levels.checked_sub(1).ok_or(InvalidJson::TooDeep)?),
            Some(b'[') => self.array(levels.checked_sub(1).ok_or(InvalidJson::TooDeep)?),
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn object(&mut self, levels: usize) -> Result<Value, InvalidJson> {
        let mut members = Map::new();
        self.take(b'{');
        self.skip_space();
        while !self.take(b'}') {
            if !members.is_empty() {
                self.expect(b',', "a comma or the object's end")?;
                self.skip_space();
            }
            let key_at = self.at;
            let key = self.string()?;
            self.skip_space();
            self.expect(b':', "a colon")?;
            self.skip_space();
            let member = self.value(levels)?;
            self.skip_space();
            if members.insert(key, member).is_some() {
                return Err(InvalidJson::RepeatedKey { at: key_at });
            }
        }
        Ok(Value::Object(members))
    }

    fn array(&mut self, levels: usize) -> Result<Value, InvalidJson> {
        let mut elements = Vec::new();
        self.take(b'[');
        self.skip_space();
        while !self.take(b']') {
            if !elements.is_empty() {
                self.expect(b',', "a comma or the array's end")?;
                self.skip_space();
            }
            elements.push(self.value(levels)?);
            self.skip_space();
        }
        Ok(Value::Array(elements))
    }

    fn string(&mut self) -> Result<String, InvalidJson> {
        self.expect(b'"', "a string")?;
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let special = |byte: u8| byte == b'"' || byte == b'\\' || byte < b' ';
            let plain = rest.bytes().position(special).unwrap_or(rest.len());
            string.push_str(&rest[..plain]);
            self.at += plain;
            if self.take(b'"') {
                return Ok(string);
            }
            self.expect(b'\\', "the string's end")?;
            string.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, InvalidJson> {
        let escaped = match self.peek() {
            Some(plain @ (b'"' | b'\\' | b'/')) => char::from(plain),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode_escape();
            }
            _ => return Err(self.unexpected("an escape")),
        };
        self.at += 1;
        Ok(escaped)
    }

    /// After `\u`: one code unit, or a pair of surrogates with another `\u` between.
    fn unicode_escape(&mut self) -> Result<char, InvalidJson> {
        let mut units = vec![self.code_unit()?];
        if matches!(units[0], 0xD800..=0xDBFF) && self.text[self.at..].starts_with("\\u") {
            self.at += 2;
            units.push(self.code_unit()?);
        }
        match char::decode_utf16(units).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err(self.unexpected("a pair of surrogates")),
        }
    }

    fn code_unit(&mut self) -> Result<u16, InvalidJson> {
        let digits = self.text.get(self.at..self.at + 4);
        let is_hex = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let unit = digits
            .filter(is_hex)
            .and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.unexpected("four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }

    fn number(&mut self) -> Result<Value, InvalidJson> {
        let start = self.at;
        let is_negative = self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        let mut is_whole = true;
        if self.take(b'.') {
            is_whole = false;
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            is_whole = false;
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        // Negative zero is a double: no integer tells it from zero.
        let whole = match (is_whole, is_negative) {
            (true, false) => text.parse::<u64>().ok().map(Number::from),
            (true, true) => text
                .parse::<i64>()
                .ok()
                .filter(|&n| n != 0)
                .map(Number::from),
            (false, _) => None,
        };
        let number = whole.or_else(|| Number::from_f64(text.parse().ok()?));
        number
            .map(Value::Number)
            .ok_or(InvalidJson::NumberRange { at: start })
    }

    fn digits(&mut self) -> Result<(), InvalidJson> {
        let digits = self.text[self.at..]
            .bytes()
            .take_while(u8::is_ascii_digit)
            .count();
        if digits == 0 {
            return Err(self.unexpected("a digit"));
        }
        self.at += digits;
        Ok(())
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, InvalidJson> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn skip_space(&mut self) {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += self.text[self.at..].bytes().take_while(is_space).count();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps over the byte if it comes next. Only for ASCII, so that `at` stays between characters.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), InvalidJson> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    fn unexpected(&self, expected: &'static str) -> InvalidJson {
        InvalidJson::Syntax {
            expected,
            at: self.at,
        }
    }
}
