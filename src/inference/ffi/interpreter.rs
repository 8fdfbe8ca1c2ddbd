//! Parsed models, interpreters and their tensors.

#![allow(unsafe_code, reason = "the TFLite library speaks C")]

use super::c;
use super::delegate::Delegate;
use super::error_messages::{ErrorMessages, RuntimeError, report, runtime_error};
use crate::inference::lock;
use crate::inference::tensors::{TensorInfo, TensorType};
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// A parsed model with its bytes; shared by all interpreters over it.
#[derive(Debug)]
pub(crate) struct RawModel {
    pointer: NonNull<c::TfLiteModel>,
    /// The flatbuffer, which the runtime reads as long as a model or an interpreter lives.
    bytes: Arc<[u8]>,
    /// The runtime's model keeps a pointer to them.
    _messages: Arc<ErrorMessages>,
}

// SAFETY: the runtime's model never changes and is bound to no thread. Interpreters of several threads read it.
unsafe impl Send for RawModel {}
// SAFETY: as above; no method of ours changes it.
unsafe impl Sync for RawModel {}

impl RawModel {
    /// Parses a flatbuffer; the runtime verifies it.
    pub(crate) fn new(bytes: Arc<[u8]>) -> Result<Self, RuntimeError> {
        let messages = Arc::new(ErrorMessages::new());
        // SAFETY: the bytes do not move and never change. They and the messages are freed after the model (see Drop)
        // and after every interpreter over it, each of which holds this model in an Arc.
        let pointer = unsafe {
            c::TfLiteModelCreateWithErrorReporter(
                bytes.as_ptr().cast(),
                bytes.len(),
                report,
                Arc::as_ptr(&messages).cast_mut().cast(),
            )
        };
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Self {
                pointer,
                bytes,
                _messages: messages,
            }),
            None => Err(runtime_error(&messages, "reading the model")),
        }
    }

    /// Whether `data` points into the flatbuffer, which nobody may write.
    fn holds(&self, data: *const c_void) -> bool {
        self.bytes.as_ptr_range().contains(&data.cast())
    }
}

impl Drop for RawModel {
    fn drop(&mut self) {
        // SAFETY: made by `new`, deleted once. The fields that it points to are dropped after this.
        unsafe { c::TfLiteModelDelete(self.pointer.as_ptr()) }
    }
}

/// An interpreter with the delegates that were applied to it.
#[derive(Debug)]
pub(crate) struct RawInterpreter {
    pointer: NonNull<c::TfLiteInterpreter>,
    /// Whether the last run succeeded, so that the outputs hold what it wrote.
    has_run: bool,
    /// In the order in which they were applied. Freed after the interpreter, like the messages and the model; see Drop.
    delegates: Vec<Delegate>,
    messages: Arc<ErrorMessages>,
    model: Arc<RawModel>,
}

// SAFETY: an interpreter is bound to no thread, but two threads must not use it at once: it is owned, not Sync, and what
// changes it takes `&mut self`. It owns all that it points to, except the model, which may be shared.
unsafe impl Send for RawInterpreter {}

impl RawInterpreter {
    /// An interpreter with the runtime's plain kernels, single-threaded.
    pub(crate) fn new(model: &Arc<RawModel>) -> Result<Self, RuntimeError> {
        let messages = Arc::new(ErrorMessages::new());
        // SAFETY: the options are made, used and deleted here. Where they are null, the setters are skipped, and
        // deleting null is allowed. The interpreter points to the model's bytes and to the messages, which the returned
        // value owns and drops after it.
        let pointer = unsafe {
            let options = c::TfLiteInterpreterOptionsCreate();
            if !options.is_null() {
                c::TfLiteInterpreterOptionsSetNumThreads(options, 1);
                c::TfLiteInterpreterOptionsSetErrorReporter(
                    options,
                    report,
                    Arc::as_ptr(&messages).cast_mut().cast(),
                );
            }
            let pointer = c::TfLiteInterpreterCreate(model.pointer.as_ptr(), options);
            c::TfLiteInterpreterOptionsDelete(options);
            pointer
        };
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Self {
                pointer,
                has_run: false,
                delegates: Vec::new(),
                messages,
                model: Arc::clone(model),
            }),
            None => Err(runtime_error(&messages, "making an interpreter")),
        }
    }

    /// Lets a delegate take nodes. After an error the interpreter must not be used: the runtime has removed the
    /// earlier delegates too.
    pub(crate) fn apply(&mut self, delegate: Delegate) -> Result<(), RuntimeError> {
        self.has_run = false;
        let pointer = delegate.pointer;
        // Kept also after an error: the runtime may refer to it until the interpreter is deleted.
        self.delegates.push(delegate);
        // SAFETY: both are live, and the delegate lives as long as the interpreter. No slice into tensors exists, because
        // slices borrow the interpreter.
        let status = unsafe {
            c::TfLiteInterpreterModifyGraphWithDelegate(self.pointer.as_ptr(), pointer.as_ptr())
        };
        self.check(status, "applying the delegate")
    }

    /// Numbers of the nodes that a run would execute, including the kernels of delegates.
    pub(crate) fn execution_plan(&mut self) -> Result<Vec<i32>, RuntimeError> {
        let (reader, plan) = Delegate::plan_reader()?;
        self.apply(reader)?;
        Ok(std::mem::take(&mut *lock(&plan)))
    }

    /// Allocates the memory of the tensors and zeroes the inputs.
    pub(crate) fn allocate(&mut self) -> Result<(), RuntimeError> {
        self.has_run = false;
        // SAFETY: live, and no slice into tensors exists.
        let status = unsafe { c::TfLiteInterpreterAllocateTensors(self.pointer.as_ptr()) };
        self.check(status, "allocating the tensors")?;
        for index in 0..self.count(Side::Input) {
            let tensor = self.tensor(Side::Input, index)?;
            let (data, bytes) = self.writable(tensor)?;
            // SAFETY: the tensor's memory of that many bytes, which may be written. The runtime leaves it uninitialised.
            unsafe { data.as_ptr().cast::<u8>().write_bytes(0, bytes) };
        }
        Ok(())
    }

    /// Runs the graph.
    pub(crate) fn invoke(&mut self) -> Result<(), RuntimeError> {
        self.has_run = false;
        // SAFETY: live, used by this thread alone (`&mut`), and no slice into tensors exists. The call returns when
        // everything is computed.
        let status = unsafe { c::TfLiteInterpreterInvoke(self.pointer.as_ptr()) };
        self.check(status, "the run")?;
        self.has_run = true;
        Ok(())
    }

    /// Descriptions of the inputs and outputs.
    pub(crate) fn tensors(&self) -> Result<(Vec<TensorInfo>, Vec<TensorInfo>), RuntimeError> {
        Ok((self.infos(Side::Input)?, self.infos(Side::Output)?))
    }

    /// The memory of an input, to be filled.
    pub(crate) fn input(&mut self, index: usize) -> Result<&mut [u8], RuntimeError> {
        let (data, bytes) = self.writable(self.tensor(Side::Input, index)?)?;
        // SAFETY: the tensor's own memory of that many bytes, zeroed by `allocate` and only written since; nobody else
        // uses it while the interpreter is borrowed mutably.
        Ok(unsafe { slice::from_raw_parts_mut(data.as_ptr().cast(), bytes) })
    }

    /// The memory of an output, which the last run wrote.
    pub(crate) fn output(&self, index: usize) -> Result<&[u8], RuntimeError> {
        if !self.has_run {
            return Err(RuntimeError("there was no successful run".to_owned()));
        }
        let (data, bytes) = self.tensor(Side::Output, index)?.memory()?;
        // SAFETY: the tensor's own memory of that many bytes, written by the last run; nobody writes it while the
        // interpreter is borrowed.
        Ok(unsafe { slice::from_raw_parts(data.as_ptr().cast(), bytes) })
    }

    fn count(&self, side: Side) -> usize {
        let interpreter = self.pointer.as_ptr();
        // SAFETY: live.
        let count = unsafe {
            match side {
                Side::Input => c::TfLiteInterpreterGetInputTensorCount(interpreter),
                Side::Output => c::TfLiteInterpreterGetOutputTensorCount(interpreter),
            }
        };
        usize::try_from(count).unwrap_or(0)
    }

    fn check(&self, status: c_int, action: &str) -> Result<(), RuntimeError> {
        if status == c::OK {
            // Warnings of a successful call do not belong to the next error.
            self.messages.take();
            return Ok(());
        }
        Err(runtime_error(&self.messages, action))
    }

    fn tensor(&self, side: Side, index: usize) -> Result<TensorRef<'_>, RuntimeError> {
        let interpreter = self.pointer.as_ptr();
        let pointer = i32::try_from(index)
            .ok()
            .filter(|_| index < self.count(side))
            // SAFETY: live; the index is in range.
            .map(|index| unsafe {
                match side {
                    Side::Input => c::TfLiteInterpreterGetInputTensor(interpreter, index),
                    Side::Output => {
                        c::TfLiteInterpreterGetOutputTensor(interpreter, index).cast_mut()
                    }
                }
            });
        match pointer.and_then(NonNull::new) {
            Some(pointer) => Ok(TensorRef(pointer, PhantomData)),
            None => Err(RuntimeError(format!("{side:?} {index} does not exist"))),
        }
    }

    fn infos(&self, side: Side) -> Result<Vec<TensorInfo>, RuntimeError> {
        let infos = (0..self.count(side)).map(|i| self.tensor(side, i).map(TensorRef::info));
        infos.collect()
    }

    /// The memory of an input, unless it is a part of the model file.
    fn writable(&self, tensor: TensorRef<'_>) -> Result<(NonNull<c_void>, usize), RuntimeError> {
        let (data, bytes) = tensor.memory()?;
        if self.model.holds(data.as_ptr()) {
            return Err(RuntimeError("the input is a constant".to_owned()));
        }
        Ok((data, bytes))
    }
}

impl Drop for RawInterpreter {
    fn drop(&mut self) {
        // SAFETY: live, ours, deleted once. Delegates, messages and model, to which it points, are dropped after this.
        unsafe { c::TfLiteInterpreterDelete(self.pointer.as_ptr()) }
    }
}

/// The two lists of tensors of an interpreter.
#[derive(Clone, Copy, Debug)]
enum Side {
    Input,
    Output,
}

/// A tensor of a borrowed interpreter: alive and not in use. Only read; never null.
#[derive(Clone, Copy)]
struct TensorRef<'a>(NonNull<c::TfLiteTensor>, PhantomData<&'a RawInterpreter>);

impl TensorRef<'_> {
    fn info(self) -> TensorInfo {
        let tensor = self.0.as_ptr();
        // SAFETY: alive; the index is below the number of dimensions.
        let dimension = |i| usize::try_from(unsafe { c::TfLiteTensorDim(tensor, i) }).unwrap_or(0);
        // SAFETY: alive.
        let dimensions = unsafe { c::TfLiteTensorNumDims(tensor) };
        // SAFETY: alive; the name is null or ends in NUL, belongs to the tensor, and is copied at once.
        let name = unsafe {
            let name = c::TfLiteTensorName(tensor);
            if name.is_null() {
                String::new()
            } else {
                CStr::from_ptr(name).to_string_lossy().into_owned()
            }
        };
        // SAFETY: alive.
        let quantization = unsafe { c::TfLiteTensorQuantizationParams(tensor) };
        TensorInfo {
            name,
            // SAFETY: alive.
            dtype: match unsafe { c::TfLiteTensorType(tensor) } {
                1 => TensorType::F32,
                3 => TensorType::U8,
                9 => TensorType::I8,
                other => TensorType::Other(other),
            },
            shape: (0..dimensions).map(dimension).collect(),
            scale: quantization.scale,
            zero_point: quantization.zero_point,
        }
    }

    /// Address and size of its memory, bytes.
    fn memory(self) -> Result<(NonNull<c_void>, usize), RuntimeError> {
        let tensor = self.0.as_ptr();
        // SAFETY: alive; both calls only read the tensor's head.
        let (data, bytes) =
            unsafe { (c::TfLiteTensorData(tensor), c::TfLiteTensorByteSize(tensor)) };
        match NonNull::new(data) {
            Some(data) => Ok((data, bytes)),
            None => Err(RuntimeError("a tensor has no memory".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_model_is_refused_in_the_runtimes_messages() {
        for bytes in [&b""[..], b"TFL3", &[7; 4096]] {
            let messages = RawModel::new(bytes.into()).unwrap_err().0;
            assert!(messages.contains("lat"), "{messages}");
        }
    }
}
