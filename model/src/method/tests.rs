// SPDX-License-Identifier: MIT OR Apache-2.0
pub mod oracle;

use super::*;

fn error(name: &str, options: &str) -> String {
    let spec = MethodSpec { name: name.into(), options: options.into() };
    match build(&spec, 12) {
        Ok(method) => panic!("built {}", method.describe()),
        Err(error) => error.to_string(),
    }
}

fn described(name: &str, options: &str) -> String {
    build(&MethodSpec { name: name.into(), options: options.into() }, 12).unwrap().describe()
}

#[test]
fn defaults_are_the_published_ones() {
    assert_eq!(described("gclip", ""), "gclip(fuse=6+7,heads=mean,weights=third,suppress=7-10,bias=keep)");
    assert_eq!(described("clearclip", ""), "clearclip(attention=qq,residual=drop)");
    assert_eq!(described("clip", " "), "clip");
    assert_eq!(described("cliptrase", ""), "cliptrase(denoise=clusters,eps=0.7,min=3,class=ignore)");
    assert_eq!(
        described("resclip", ""),
        "resclip(base=naclip,rcs=on,blocks=5-8,tau_r=2,lambda_r=0.3,sfr=on,tau_s=2.1,lambda_s=0.7,sure=0.25,apart=on,std=5)"
    );
    assert_eq!(described("proxyclip", ""), "proxyclip(gla=off,beta=1.2,gamma=3,grid=own,helper=none)");
    assert_eq!(
        described("proxyclip", "gla=true,grid=clip,gamma=3"),
        "proxyclip(gla=on,beta=auto,gamma=3,anchors=2,grid=clip,helper=none)"
    );
    assert_eq!(described("pearl", ""), "pearl(polar=5,kk=0.08)");
    assert_eq!(described("pearl", "polar=svd"), "pearl(polar=svd,kk=0.08)");
    assert_eq!(described("scclip", ""), "scclip(pre=8,post=3,layers=3-9,beta=0.4,cls=0.3)");
}

#[test]
fn options_are_read() {
    assert_eq!(
        described("gclip", "fuse=5+6, heads=each,weights=half,suppress=none,bias=scale"),
        "gclip(fuse=5+6,heads=each,weights=half,suppress=none,bias=scale)"
    );
}

#[test]
fn mistakes_are_one_sentence_that_lists_the_choices() {
    assert!(error("glcip", "").starts_with("unknown method \"glcip\": use one of gclip, clip"));
    assert_eq!(
        error("gclip", "fusse=6+7"),
        "unknown method option \"fusse\": gclip has fuse, suppress, heads, weights, bias"
    );
    assert_eq!(error("clip", "x=1"), "unknown method option \"x\": clip has none");
    assert_eq!(error("gclip", "heads=all"), "gclip option heads=all is unknown: use one of mean, each");
    assert_eq!(error("gclip", "fuse"), "method option \"fuse\" is not of the form key=value");
    assert_eq!(error("gclip", "heads=mean,heads=each"), "method option heads is given twice");
    // The last block is the method's own: it cannot be fused with itself.
    assert!(error("gclip", "fuse=6+11").contains("\"11\" is no block before the last, which are 0 to 10"));
    assert!(error("resclip", "blocks=8-5").contains("no range of blocks before the last, which are 0 to 10"));
    assert!(error("cliptrase", "min=0").contains("must be a number in 1..1000000"));
    assert!(error("scclip", "pre=11").contains("\"11\" is no block before the last, which are 0 to 10"));
    assert!(error("scclip", "layers=9-3").contains("no range of blocks"));
    assert_eq!(
        error("proxyclip", "anchors=2"),
        "unknown method option \"anchors\": proxyclip has gla, grid, beta, gamma"
    );
    assert!(error("pearl", "polar=0").contains("must be svd or a whole number in 1..100"));
    assert!(error("gclip", "suppress=10-7").contains("no range of blocks"));
}

#[test]
fn a_helper_model_goes_with_the_methods_that_read_one() {
    let check = |name: &str, helper: Option<&str>| {
        let spec = MethodSpec { name: name.into(), options: String::new() };
        let method = build(&spec, 12).unwrap();
        check_helper(&*method, &spec, helper).map_err(|error| error.to_string())
    };
    assert_eq!(check("gclip", None), Ok(()));
    assert_eq!(check("proxyclip", Some("dino")), Ok(()));
    assert!(
        check("proxyclip", None)
            .unwrap_err()
            .starts_with("method proxyclip needs a helper model beside CLIP: set")
    );
    assert_eq!(
        check("gclip", Some("dino")).unwrap_err(),
        "method gclip reads no helper model, and helper-model is dino: leave it out, or use method proxyclip"
    );
}
