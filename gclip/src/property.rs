// SPDX-License-Identifier: MIT OR Apache-2.0
//! An element's properties, from text that a user has written. GObject takes a value out of range for a mistake of
//! the programmer and ends the program, so each is checked first.

use anyhow::{Context, Result, bail, ensure};
use gst::prelude::*;

/// Sets `name=value` for each of these.
///
/// # Errors
/// No such property, not one that can be set, or a value that it does not take.
pub fn set_all(element: &gst::Element, assignments: &[String]) -> Result<()> {
    assignments.iter().try_for_each(|assignment| set(element, assignment))
}

fn set(element: &gst::Element, assignment: &str) -> Result<()> {
    let factory = element.factory().map(|factory| factory.name().to_string()).unwrap_or_default();
    let (name, text) = assignment
        .split_once('=')
        .with_context(|| format!("`{assignment}` is not of the form PROPERTY=VALUE"))?;
    let property = element.find_property(name).with_context(|| {
        format!("{factory} has no property `{name}` (gst-inspect-1.0 {factory} lists them)")
    })?;
    let flags = property.flags();
    ensure!(
        flags.contains(glib::ParamFlags::WRITABLE),
        "the property `{name}` of {factory} can only be read"
    );
    ensure!(
        !flags.contains(glib::ParamFlags::CONSTRUCT_ONLY),
        "the property `{name}` of {factory} cannot be set here"
    );
    let Ok(value) = glib::Value::deserialize_with_pspec(text, &property) else {
        bail!("`{text}` is no value for the property `{name}` of {factory}{}", range(&property));
    };
    ensure!(
        property.value_is_valid(&value),
        "`{text}` is no value for the property `{name}` of {factory}{}",
        range(&property)
    );
    element.set_property_from_value(name, &value);
    Ok(())
}

/// What numbers a property takes, as the end of a sentence; nothing for other types.
fn range(property: &glib::ParamSpec) -> String {
    macro_rules! ends {
        ($($spec:ty),*) => {
            $(if let Some(spec) = property.downcast_ref::<$spec>() {
                return format!(": it takes {} to {}", spec.minimum(), spec.maximum());
            })*
        };
    }
    ends!(
        glib::ParamSpecInt,
        glib::ParamSpecUInt,
        glib::ParamSpecInt64,
        glib::ParamSpecUInt64,
        glib::ParamSpecFloat,
        glib::ParamSpecDouble
    );
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_property_does_not_take_is_told_with_what_it_takes() {
        gst::init().unwrap();
        let element = gst::ElementFactory::make("videotestsrc").build().unwrap();
        let refused = |assignment: &str, words: &[&str]| {
            let error = set_all(&element, &[assignment.to_string()]).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        };
        refused("num-buffers=-2", &["`-2`", "-1 to 2147483647"]);
        refused("num-buffers=99999999999", &["num-buffers"]);
        refused("pattern=nothing", &["`nothing`", "pattern"]);
        refused("parent=x", &["parent"]);
        refused("colour=1", &["no property `colour`"]);
        refused("name", &["PROPERTY=VALUE"]);
        set_all(&element, &["num-buffers=5".into(), "pattern=ball".into()]).unwrap();
        assert_eq!(element.property::<i32>("num-buffers"), 5);
        let volume = gst::ElementFactory::make("volume").build().unwrap();
        for value in ["7000", "-1", "nan"] {
            let error = set_all(&volume, &[format!("volume={value}")]).unwrap_err().to_string();
            assert!(error.contains("0 to 10"), "{error}");
        }
    }
}
