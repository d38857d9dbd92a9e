// SPDX-License-Identifier: MIT OR Apache-2.0

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;

use super::careful::Careful;
use super::*;
use crate::model::anomaly::States;
use crate::model::{InferOptions, MethodSpec, Picture, PixelFormat, Prompts, Templates};

/// What torch says when a CPU tensor does not fit: asked of torch itself.
fn torch_out_of_memory() -> anyhow::Error {
    let kind = (tch::Kind::Float, tch::Device::Cpu);
    tch::Tensor::f_zeros([1 << 55], kind).expect_err("an exabyte").into()
}

#[test]
fn lack_of_memory_halves_the_batch_until_it_fits_and_remembers() {
    let mut careful = Careful::default();
    let mut sizes = Vec::new();
    let mut infer = |part: &[u32]| {
        sizes.push(part.len());
        if part.len() > 2 { Err(torch_out_of_memory()) } else { Ok(part.to_vec()) }
    };
    for _ in 0..2 {
        let answers = careful.run(&[1, 2, 3, 4, 5, 6, 7, 8], &mut infer);
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
    assert_eq!(sizes, [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn a_limit_is_lifted_again_in_time() {
    let mut careful = Careful::default();
    let mut largest = 0;
    for round in 0..1000 {
        let scarce = round < 10;
        careful.run(&[0; 8], &mut |part: &[i32]| {
            largest = part.len();
            if scarce && part.len() > 1 {
                return Err(anyhow!("CUDA out of memory. Tried to allocate 2.00 GiB"));
            }
            Ok(part.to_vec())
        });
    }
    assert_eq!(largest, 8);
}

#[test]
fn a_picture_that_never_fits_fails_alone_with_one_sentence() {
    let mut infer = |part: &[u32]| {
        if part.contains(&3) { Err(torch_out_of_memory()) } else { Ok(part.to_vec()) }
    };
    let answers = Careful::default().run(&[1, 2, 3, 4], &mut infer);
    let works: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(works, [true, true, false, true]);
    let text = answers[2].as_ref().unwrap_err().to_string();
    assert!(text.contains("not enough memory") && text.contains("input-size"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn another_failure_is_retried_singly_once() {
    let mut calls = 0;
    let mut infer = |part: &[u32]| {
        calls += 1;
        if part.contains(&2) {
            Err(anyhow!("bad picture\nException raised from somewhere"))
        } else {
            Ok(part.to_vec())
        }
    };
    let answers = Careful::default().run(&[1, 2, 3], &mut infer);
    assert_eq!(answers[0].as_ref().unwrap(), &1);
    assert_eq!(answers[1].as_ref().unwrap_err().to_string(), "bad picture");
    assert_eq!(answers[2].as_ref().unwrap(), &3);
    assert_eq!(calls, 4);
}

#[test]
fn a_lost_gpu_is_asked_once_and_never_again() {
    let sticky = "CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA`";
    let mut careful = Careful::default();
    let mut calls = 0;
    let mut infer = |_: &[u32]| -> anyhow::Result<Vec<u32>> {
        calls += 1;
        Err(anyhow!(sticky))
    };
    for _ in 0..2 {
        for answer in careful.run(&[1, 2, 3], &mut infer) {
            let error = answer.unwrap_err();
            assert!(error.is::<crate::batch::Fatal>(), "{error}");
            let text = error.to_string();
            assert!(text.contains("start it anew"), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
    assert_eq!(calls, 1);
    assert!(!careful.takes(1));
}

#[test]
fn what_a_gpu_survives_is_told_from_what_it_does_not() {
    let fatal = |text: &'static str| {
        let answers =
            Careful::default().run(&[1], &mut |_: &[u32]| -> anyhow::Result<Vec<u32>> { Err(anyhow!(text)) });
        answers.into_iter().all(|answer| answer.is_err_and(|error| error.is::<crate::batch::Fatal>()))
    };
    for text in [
        "CUDA error: unspecified launch failure",
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: device-side assert triggered",
        "CUDA cannot wait: an illegal memory access was encountered",
        "CUDA error: the launch timed out and was terminated",
        "CUDA error: misaligned address",
    ] {
        assert!(fatal(text), "{text}");
    }
    for text in [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory",
        "a plane is missing",
        "a picture of an illegal memory access",
    ] {
        assert!(!fatal(text), "{text}");
    }
}

#[test]
fn a_gpu_lost_between_single_tries_fails_all_that_are_left() {
    let mut tries = Vec::new();
    let mut infer = |part: &[u32]| {
        tries.push(part.to_vec());
        match part {
            [1] => Ok(vec![1]),
            [2] => Err(anyhow!("CUDA error: unspecified launch failure")),
            _ => Err(anyhow!("bad picture")),
        }
    };
    let answers = Careful::default().run(&[1, 2, 3], &mut infer);
    assert!(answers[0].is_ok() && answers[1].is_err() && answers[2].is_err());
    assert_eq!(tries, [vec![1, 2, 3], vec![1], vec![2]]);
}

#[test]
fn a_panic_fails_the_request_that_causes_it() {
    let mut infer = |part: &[u32]| {
        assert!(!part.contains(&1), "out of luck");
        Ok(part.to_vec())
    };
    let answers = Careful::default().run(&[1, 2], &mut infer);
    assert_eq!(answers[0].as_ref().unwrap_err().to_string(), "panic: out of luck");
    assert_eq!(answers[1].as_ref().unwrap(), &2);
}

#[test]
fn too_few_answers_are_an_error_of_each_request() {
    let answers = Careful::default().run(&[1, 2], &mut |_: &[u32]| Ok(Vec::<u32>::new()));
    let texts: Vec<_> = answers.into_iter().map(|answer| answer.unwrap_err().to_string()).collect();
    assert_eq!(texts, ["the model gave 0 answers for 1 pictures"; 2]);
}

const HANG: Duration = Duration::from_secs(20);

fn spec(model: &str) -> ModelSpec {
    ModelSpec { model: model.into(), ..ModelSpec::default() }
}

fn info() -> ModelInfo {
    ModelInfo { hash: "none".into(), embed_dim: 2, ..ModelInfo::default() }
}

/// Answers with the picture's width, so that answers can be told apart.
fn widths(requests: Vec<Request>) -> Result<Vec<Result<Arc<Segmentation>>>> {
    let answer = |request: Request| {
        let Picture { width, height, .. } = request.picture;
        let ids = crate::model::Ids::U8(Vec::new());
        Ok(Arc::new(Segmentation::new(width, height, ids, Vec::new())))
    };
    Ok(requests.into_iter().map(answer).collect())
}

fn request(width: usize) -> Request {
    let picture = Picture {
        format: PixelFormat::Gray8,
        width,
        height: 1,
        colour: Default::default(),
        data: tch::Tensor::zeros([width as i64], (tch::Kind::Uint8, tch::Device::Cpu)).into(),
    };
    Request { picture, vocabulary: Arc::default(), options: InferOptions::default() }
}

fn job(engine: &Engine, width: usize) -> Job {
    Job::new(request(width), engine.weights())
}

fn unit_rows(texts: &[String]) -> Result<Vec<f32>> {
    Ok(texts.iter().flat_map(|text| if text.len() % 2 == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect())
}

fn one_by_one() -> SessionOptions {
    SessionOptions { batch_size: 1, batch_timeout: Duration::ZERO, max_in_flight: 4 }
}

#[test]
fn an_injected_engine_serves_whoever_asks_for_its_id() {
    let spec = spec("fake");
    let installed =
        Engine::install("engine-test-1", &spec, info(), Box::new(widths), Box::new(unit_rows)).unwrap();
    let shared = Engine::shared("engine-test-1", &spec, "segment0").unwrap();
    assert!(Arc::ptr_eq(&installed, &shared));
    let session = shared.session(one_by_one(), Arc::new(|| ()));
    let tickets = [3, 5].map(|width| session.submit(job(&installed, width)));
    let widths = tickets.each_ref().map(|ticket| ticket.wait(None).unwrap().unwrap().width);
    assert_eq!(widths, [3, 5]);
    assert_eq!(installed.stats().batch.requests, 2);
}

#[test]
fn a_model_is_warmed_up_with_whole_batches_on_its_own_thread() {
    let (say, batches) = channel();
    let run = move |requests: Vec<Request>| {
        say.send((requests.len(), thread::current().name().map(str::to_owned)))?;
        widths(requests)
    };
    let engine =
        Engine::install("engine-test-6", &spec("fake"), info(), Box::new(run), Box::new(unit_rows)).unwrap();
    engine.warm_up(&[1, 8]).unwrap();
    let name = Some("gclip-model".to_owned());
    assert_eq!(batches.try_iter().collect::<Vec<_>>(), [(1, name.clone()), (8, name)]);
}

#[test]
fn elements_that_disagree_on_the_model_are_told_both_names_and_the_difference() {
    let gclip = spec("fake");
    let _installed =
        Engine::install("engine-test-2", &gclip, info(), Box::new(widths), Box::new(unit_rows)).unwrap();
    let clip = ModelSpec { method: MethodSpec { name: "clip".into(), options: String::new() }, ..gclip };
    let error = Engine::shared("engine-test-2", &clip, "segment1").err().unwrap().to_string();
    for part in ["segment1", "an injected model", "engine-test-2", "method: \"clip\" vs \"gclip\""] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert!(!error.contains("device"), "{error}");
}

#[test]
fn a_model_that_cannot_be_loaded_leaves_the_id_free() {
    let missing = spec("/nowhere/at-all");
    let error = Engine::shared("engine-test-3", &missing, "segment0").err().unwrap();
    assert!(format!("{error:#}").contains("/nowhere/at-all"), "{error:#}");
    let fake = spec("fake");
    Engine::install("engine-test-3", &fake, info(), Box::new(widths), Box::new(unit_rows)).unwrap();
}

#[test]
fn names_are_encoded_once_and_counted() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let encode = move |texts: &[String]| {
        count.fetch_add(1, Ordering::SeqCst);
        unit_rows(texts)
    };
    let engine =
        Engine::install("engine-test-4", &spec("fake"), info(), Box::new(widths), Box::new(encode)).unwrap();
    let two = Templates::Custom(vec!["a {}".into(), "the {}".into()]);
    let first = engine.weights().vocabulary(&Prompts::parse("cat; dog", "").unwrap(), &two, None).unwrap();
    assert_eq!((first.labels.len(), first.features.len()), (2, 4));
    engine.weights().vocabulary(&Prompts::parse("dog; horse", "").unwrap(), &two, None).unwrap();
    let again = engine.weights().vocabulary(&Prompts::parse("cat; dog", "").unwrap(), &two, None).unwrap();
    assert_eq!(first, again);
    let stats = engine.stats();
    assert_eq!((stats.cache_misses, stats.texts_encoded, stats.cache_hits), (3, 6, 3));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    // A thing that is looked at for damage is asked for twice: sound and damaged.
    let states = States { normal: two, abnormal: Templates::Custom(vec!["a broken {}".into()]) };
    engine.weights().with_suspects(&first, &["cat".into(), "cup".into()], &states, None).unwrap();
    let stats = engine.stats();
    assert_eq!((stats.cache_misses, stats.texts_encoded, stats.cache_hits), (6, 10, 4));
}

#[test]
fn text_that_is_being_encoded_holds_no_picture_up() {
    let (is_encoding, encoding) = channel();
    let (go, gate) = channel::<()>();
    let encode = move |texts: &[String]| {
        is_encoding.send(())?;
        gate.recv_timeout(HANG)?;
        unit_rows(texts)
    };
    let engine =
        Engine::install("engine-test-5", &spec("fake"), info(), Box::new(widths), Box::new(encode)).unwrap();
    thread::scope(|scope| {
        let vocabulary = scope.spawn(|| {
            engine.weights().vocabulary(&Prompts::parse("cat", "").unwrap(), &Templates::None, None)
        });
        encoding.recv_timeout(HANG).unwrap();
        // The encoder is at its gate, which opens only after this picture.
        let session = engine.session(one_by_one(), Arc::new(|| ()));
        assert!(session.submit(job(&engine, 2)).wait(None).unwrap().is_ok());
        go.send(()).unwrap();
        vocabulary.join().unwrap().unwrap();
    });
}
