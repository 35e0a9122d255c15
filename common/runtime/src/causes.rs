//! Errors with what caused them, in one line.

use std::error::Error;

/// The text of every transport error, whatever it is.
const SAYS_NOTHING: &str = "transport error";

/// An error with all its causes; the last one is the root cause. Texts that say nothing or repeat an earlier text are
/// left out.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = cause.to_string();
        let is_new =
            !text.is_empty() && text != SAYS_NOTHING && !texts.iter().any(|before| before.contains(&text));
        if is_new {
            texts.push(text);
        }
        next = cause.source();
    }
    if texts.is_empty() {
        error.to_string()
    } else {
        texts.join(": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Layer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|below| below as _)
        }
    }

    #[test]
    fn an_error_is_told_to_its_last_cause_and_nothing_twice() {
        let os = Layer("Connection refused (os error 111)", None);
        let tcp = Layer("tcp connect error", Some(Box::new(os)));
        let transport = Layer("transport error", Some(Box::new(tcp)));
        assert_eq!(
            causes(&transport),
            "tcp connect error: Connection refused (os error 111)"
        );
        let repeated = Layer("a: b", Some(Box::new(Layer("b", None))));
        assert_eq!(causes(&repeated), "a: b");
        assert_eq!(causes(&Layer("transport error", None)), "transport error");
    }
}
