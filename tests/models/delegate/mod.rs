//! Compares delegate plugins with the CPU: what they claim, what they compute, and every way in which they fail. Our
//! own plugin replaces an accelerator.

mod claims;
mod processes;
mod refusals;
mod runs;
mod tensors;

use handloom::draw::scene::signing_scene;
use handloom::frame::RgbFrame;
use handloom::inference::model_files::{ModelFile, ModelRole};
use handloom::inference::{
    BackendError, DelegateLoadedModel, DelegateModel, DelegateSpec, ModelFiles, ModelPaths,
};
use std::sync::LazyLock;

static BUNDLE: LazyLock<ModelFiles> = LazyLock::new(|| {
    ModelFiles::load(&ModelPaths {
        models: Some(test_support::models()),
        ..ModelPaths::default()
    })
    .unwrap()
});

/// Drawn images with hands.
static IMAGES: LazyLock<Vec<RgbFrame>> =
    LazyLock::new(|| (0..4).map(|i| signing_scene(3, 9 * i, 320, 240)).collect());

fn open(file: &ModelFile, spec: &DelegateSpec) -> Result<DelegateModel, BackendError> {
    let (mut files, role) = (BUNDLE.clone(), file.spec.role);
    let of_role = match role {
        ModelRole::Palm => &mut files.palm,
        ModelRole::Hand => &mut files.hand,
    };
    *of_role = file.clone();
    DelegateModel::open(&DelegateLoadedModel::load(spec, &files, role)?)
}
