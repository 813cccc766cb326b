//! The template language: texts with `{column}` in them.
//!
//! | in a template | becomes |
//! | --- | --- |
//! | `{origin}` | the column's text |
//! | `{#row}` | the row's number, from 1 |
//! | `{#json}` (or `{json}`, where no column is called so) | the row as a JSON object |
//! | `{{`, `}}` | a brace |
//! | `"{distance:int}"`, `"{temp:number}"`, `"{ok:bool}"`, `"{tags:json}"` | in a JSON template, and alone in its string: the value itself instead of a string |
//!
//! In a JSON template the text is escaped as JSON needs it; in a plain one it stays as it is.

use serde_json::Value;

/// A compiled template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Value(Source, Kind),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A column, by name.
    Column(String),
    /// The row's number.
    RowNumber,
    /// The whole row as JSON.
    Whole,
}

/// What a value becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Int,
    Number,
    Bool,
    Json,
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template {template:?}: {problem}")]
pub struct TemplateError {
    template: String,
    problem: String,
}

/// What is wrong with a row, and in which column.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowProblem {
    pub(super) column: Option<String>,
    pub(super) problem: String,
}

/// A row's values.
pub(super) trait Values {
    /// Appends the text of `source`.
    fn append(&self, source: &Source, out: &mut Vec<u8>) -> Result<(), RowProblem>;
}

impl Template {
    /// Compiles a JSON template.
    ///
    /// # Errors
    /// It is no JSON, or a placeholder in it is wrong.
    pub fn json(text: &str) -> Result<Self, TemplateError> {
        let error = |problem| TemplateError { template: text.to_owned(), problem };
        let value: Value = serde_json::from_str(text).map_err(|e| error(format!("it is no JSON: {e}")))?;
        let mut builder = Builder::default();
        builder.value(&value).map_err(error)?;
        Ok(Self { parts: builder.finish(), json: true })
    }

    /// Compiles a plain template.
    ///
    /// # Errors
    /// A placeholder in it is wrong.
    pub fn plain(text: &str) -> Result<Self, TemplateError> {
        let error = |problem| TemplateError { template: text.to_owned(), problem };
        let parts = parse(text).map_err(error)?;
        let typed = |part: &Part| matches!(part, Part::Value(_, kind) if *kind != Kind::Text);
        if parts.iter().any(typed) {
            return Err(error("a type has a meaning in JSON templates only".into()));
        }
        Ok(Self { parts, json: false })
    }

    /// The columns that it names, where `known` has them; `json` is not one of them unless it is known.
    pub(super) fn resolve(&mut self, known: &[String]) -> Result<(), String> {
        for part in &mut self.parts {
            let Part::Value(source, _) = part else { continue };
            let Source::Column(column) = source else { continue };
            if known.contains(column) {
                continue;
            }
            if column != "json" {
                return Err(column.clone());
            }
            *source = Source::Whole;
        }
        Ok(())
    }

    /// Appends what the template makes of a row.
    pub(super) fn render(&self, row: &dyn Values, out: &mut Vec<u8>) -> Result<(), RowProblem> {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(source, Kind::Text) if !self.json => row.append(source, out)?,
                Part::Value(source, kind) => {
                    let start = out.len();
                    row.append(source, out)?;
                    let tail = out.get(start..).unwrap_or_default();
                    if *kind == Kind::Text && is_plain(tail) {
                        continue;
                    }
                    let text =
                        kind.of(tail).map_err(|problem| RowProblem { column: source.name(), problem })?;
                    out.truncate(start);
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
        Ok(())
    }
}

impl Source {
    fn name(&self) -> Option<String> {
        match self {
            Self::Column(name) => Some(name.clone()),
            Self::RowNumber | Self::Whole => None,
        }
    }
}

/// Whether a text stands in a JSON string as it is.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (0x20..0x7f).contains(byte) && *byte != b'"' && *byte != b'\\')
}

impl Kind {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "int" => Some(Self::Int),
            "number" => Some(Self::Number),
            "bool" => Some(Self::Bool),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    /// The JSON of a value, without the quotes of a string.
    fn of(self, text: &[u8]) -> Result<String, String> {
        let text = std::str::from_utf8(text).map_err(|_| "the text is not UTF-8".to_owned())?;
        let is_no = |what: &str| format!("{text:?} is no {what}");
        match self {
            Self::Text => Ok(escape(text)),
            Self::Int => {
                let number: i128 = text.trim().parse().map_err(|_| is_no("integer"))?;
                Ok(number.to_string())
            }
            Self::Number => {
                let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
                let number = number.ok_or_else(|| is_no("number"))?;
                // A text that is a number in JSON, too, keeps all its digits.
                match serde_json::from_str::<serde_json::Number>(text.trim()) {
                    Ok(_) => Ok(text.trim().to_owned()),
                    Err(_) => Ok(number.to_string()),
                }
            }
            Self::Bool => match text.trim().to_ascii_lowercase().as_str() {
                "true" => Ok("true".into()),
                "false" => Ok("false".into()),
                _ => Err(is_no("true or false")),
            },
            Self::Json => {
                serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| is_no("JSON"))?;
                Ok(text.to_owned())
            }
        }
    }
}

/// A string's JSON without its quotes.
pub(super) fn escape(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

/// Writes a JSON template's parts.
#[derive(Default)]
struct Builder {
    parts: Vec<Part>,
}

impl Builder {
    fn value(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::String(text) => self.string(text, true),
            Value::Array(values) => {
                self.literal("[");
                for (position, value) in values.iter().enumerate() {
                    self.literal(if position == 0 { "" } else { "," });
                    self.value(value)?;
                }
                self.literal("]");
                Ok(())
            }
            Value::Object(fields) => {
                self.literal("{");
                for (position, (name, value)) in fields.iter().enumerate() {
                    self.literal(if position == 0 { "" } else { "," });
                    self.string(name, false)?;
                    self.literal(":");
                    self.value(value)?;
                }
                self.literal("}");
                Ok(())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                self.literal(&value.to_string());
                Ok(())
            }
        }
    }

    fn string(&mut self, text: &str, may_be_typed: bool) -> Result<(), String> {
        let parts = parse(text)?;
        let typed = |part: &Part| matches!(part, Part::Value(_, kind) if *kind != Kind::Text);
        if parts.iter().any(typed) {
            if parts.len() > 1 || !may_be_typed {
                return Err(format!("in {text:?} a placeholder with a type must stand alone, as a value"));
            }
            self.parts.extend(parts);
            return Ok(());
        }
        self.literal("\"");
        for part in parts {
            match part {
                Part::Literal(text) => self.literal(&escape(&text)),
                value @ Part::Value(..) => self.parts.push(value),
            }
        }
        self.literal("\"");
        Ok(())
    }

    fn literal(&mut self, text: &str) {
        match self.parts.last_mut() {
            Some(Part::Literal(last)) => last.push_str(text),
            _ => self.parts.push(Part::Literal(text.to_owned())),
        }
    }

    fn finish(self) -> Vec<Part> {
        self.parts
    }
}

/// A text's literals and placeholders.
fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        literal.push_str(before);
        if let Some(after) = from.strip_prefix("{{") {
            literal.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            literal.push('}');
            rest = after;
        } else if let Some((inside, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}')) {
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(placeholder(inside)?);
            rest = after;
        } else {
            return Err(format!("a single brace in {text:?}: write {{{{ or }}}} for the character"));
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

fn placeholder(inside: &str) -> Result<Part, String> {
    let typed = inside.rsplit_once(':').and_then(|(name, kind)| Some((name, Kind::parse(kind.trim())?)));
    let (name, kind) = typed.unwrap_or((inside, Kind::Text));
    let source = match name.trim() {
        "" => return Err("{} names no column".into()),
        "#row" => Source::RowNumber,
        "#json" => Source::Whole,
        name if name.starts_with('#') => {
            return Err(format!("{{{name}}} is unknown: there are {{#row}} and {{#json}}"));
        }
        name => Source::Column(name.to_owned()),
    };
    Ok(Part::Value(source, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row(&'static [(&'static str, &'static str)]);

    impl Values for Row {
        fn append(&self, source: &Source, out: &mut Vec<u8>) -> Result<(), RowProblem> {
            let text = match source {
                Source::Column(name) => self.0.iter().find(|(column, _)| column == name).unwrap().1,
                Source::RowNumber => "7",
                Source::Whole => r#"{"a":"b"}"#,
            };
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }

    const ROW: Row = Row(&[
        ("origin", "EWR"),
        ("dist", " 1400"),
        ("temp", "39.020"),
        ("gust", "NA"),
        ("memo", "say \"hi\"\n"),
        ("ok", "TRUE"),
        ("a:b", "colon"),
        ("tags", "[1, 2]"),
    ]);

    fn render(template: &Template) -> Result<String, RowProblem> {
        let mut out = Vec::new();
        template.render(&ROW, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn json_templates_make_json() {
        for (template, expected) in [
            (r#"{"a": "{origin}-{#row}", "n": 1}"#, r#"{"a":"EWR-7","n":1}"#),
            (r#"{"d": "{dist:int}", "row": "{#row:int}"}"#, r#"{"d":1400,"row":7}"#),
            (r#"["{temp:number}", "{ok:bool}", "{tags:json}", null]"#, r#"[39.020,true,[1, 2],null]"#),
            (r#"{"m": "{memo}"}"#, r#"{"m":"say \"hi\"\n"}"#),
            (r#"{"{origin}": "{{x}}"}"#, r#"{"EWR":"{x}"}"#),
            (r#""{a:b}""#, r#""colon""#),
            (r#"{"all": "{#json:json}", "text": "{#json}"}"#, r#"{"all":{"a":"b"},"text":"{\"a\":\"b\"}"}"#),
        ] {
            let text = render(&Template::json(template).unwrap()).unwrap();
            assert_eq!(text, expected, "{template}");
            serde_json::from_str::<Value>(&text).unwrap();
        }
    }

    #[test]
    fn plain_templates_leave_text_as_it_is() {
        let template = Template::plain("{origin}/{memo}/{#row}/{{").unwrap();
        assert_eq!(render(&template).unwrap(), "EWR/say \"hi\"\n/7/{");
    }

    #[test]
    fn wrong_templates_say_what_is_wrong() {
        for (template, problem) in [
            ("{\"a\"", "no JSON"),
            (r#""{origin""#, "single brace"),
            (r#""origin}""#, "single brace"),
            (r#""{}""#, "names no column"),
            (r##""{#now}""##, "#now"),
            (r#""x{dist:int}""#, "must stand alone"),
            (r#"{"{dist:int}": 1}"#, "must stand alone"),
        ] {
            let error = Template::json(template).unwrap_err().to_string();
            assert!(error.contains(problem), "{template}: {error}");
        }
        assert!(Template::plain("{dist:int}").is_err());
    }

    #[test]
    fn values_that_do_not_fit_name_their_column() {
        for (template, column, problem) in [
            (r#""{gust:int}""#, "gust", "\"NA\" is no integer"),
            (r#""{gust:number}""#, "gust", "\"NA\" is no number"),
            (r#""{temp:int}""#, "temp", "is no integer"),
            (r#""{gust:bool}""#, "gust", "is no true or false"),
            (r#""{gust:json}""#, "gust", "is no JSON"),
        ] {
            let error = render(&Template::json(template).unwrap()).unwrap_err();
            assert_eq!(error.column.as_deref(), Some(column));
            assert!(error.problem.contains(problem), "{template}: {}", error.problem);
        }
    }

    #[test]
    fn columns_are_checked_and_json_is_the_row_unless_a_column_is_called_so() {
        let known = ["origin".to_owned()];
        let mut template = Template::plain("{origin}={json}").unwrap();
        template.resolve(&known).unwrap();
        assert_eq!(render(&template).unwrap(), r#"EWR={"a":"b"}"#);
        assert_eq!(Template::plain("{orign}").unwrap().resolve(&known), Err("orign".to_owned()));
    }
}
