//! Interpreters and their tensors.

#![allow(unsafe_code, reason = "the TFLite library speaks C")]

use super::c;
use super::delegate::Delegate;
use super::model::RawModel;
use crate::inference::ffi::error_messages::{ErrorMessages, RuntimeError, refusal, report};
use std::ffi::{CStr, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

/// Types of tensors that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorType {
    F32,
    U8,
    I8,
    /// TFLite's number of any other.
    Other(c_int),
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F32 => f.write_str("f32"),
            Self::U8 => f.write_str("uint8"),
            Self::I8 => f.write_str("int8"),
            Self::Other(number) => write!(f, "TFLite type {number}"),
        }
    }
}

/// What a tensor is.
#[derive(Clone, Debug)]
pub(crate) struct TensorInfo {
    pub(crate) name: String,
    pub(crate) dtype: TensorType,
    pub(crate) shape: Vec<usize>,
    /// 0 where it is not quantised.
    pub(crate) scale: f32,
    pub(crate) zero_point: i32,
}

/// A tensor's numbers.
#[derive(Debug)]
pub(crate) enum TensorData<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
    I8(&'a [i8]),
}

/// A tensor's numbers, to be written.
#[derive(Debug)]
pub(crate) enum TensorDataMut<'a> {
    F32(&'a mut [f32]),
    U8(&'a mut [u8]),
    I8(&'a mut [i8]),
}

/// An interpreter with the delegates that were applied to it.
#[derive(Debug)]
pub(crate) struct RawInterpreter {
    pointer: NonNull<c::Interpreter>,
    /// Whether the last run went well, so that the outputs are what it wrote.
    has_run: bool,
    /// In the order in which they were applied. With the words and the model freed after the interpreter, see Drop.
    delegates: Vec<Delegate>,
    words: Arc<ErrorMessages>,
    model: Arc<RawModel>,
}

// SAFETY: an interpreter is tied to no thread, only not to be used by two at once: it is owned, not Sync, and what
// changes it takes `&mut self`. All that it points to is owned with it or, the model, shareable.
unsafe impl Send for RawInterpreter {}

impl RawInterpreter {
    /// An interpreter with the runtime's plain kernels, single-threaded.
    pub(crate) fn new(model: &Arc<RawModel>) -> Result<Self, RuntimeError> {
        let words = Arc::new(ErrorMessages::new());
        // SAFETY: the options are made, used and deleted here, null included (deleting null is allowed, and the
        // setters are skipped). The interpreter keeps pointers to the model's bytes and to the words: both are fields
        // of what is returned and outlive it.
        let pointer = unsafe {
            let options = c::TfLiteInterpreterOptionsCreate();
            if !options.is_null() {
                c::TfLiteInterpreterOptionsSetNumThreads(options, 1);
                c::TfLiteInterpreterOptionsSetErrorReporter(
                    options,
                    report,
                    Arc::as_ptr(&words).cast_mut().cast(),
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
                words,
                model: Arc::clone(model),
            }),
            None => Err(refusal(&words, "making an interpreter")),
        }
    }

    /// Lets a delegate claim nodes. After an error the interpreter is not to be used: the runtime has undone the
    /// delegates before, too.
    pub(crate) fn apply(&mut self, delegate: Delegate) -> Result<(), RuntimeError> {
        self.has_run = false;
        let pointer = delegate.pointer;
        // Kept whatever comes of it: the runtime may refer to it until the interpreter is gone.
        self.delegates.push(delegate);
        // SAFETY: both are live; the delegate stays so for as long as the interpreter. No slice into tensors is out,
        // since those borrow the interpreter.
        let status = unsafe {
            c::TfLiteInterpreterModifyGraphWithDelegate(self.pointer.as_ptr(), pointer.as_ptr())
        };
        self.check(status, "applying the delegate")
    }

    /// The numbers of the nodes that would be run now, those of delegates' kernels among them.
    pub(crate) fn plan(&mut self) -> Result<Vec<i32>, RuntimeError> {
        let (reader, plan) = Delegate::plan_reader()?;
        self.apply(reader)?;
        Ok(plan.take())
    }

    /// Gives the tensors their memory; the inputs are zero then.
    pub(crate) fn allocate(&mut self) -> Result<(), RuntimeError> {
        self.has_run = false;
        // SAFETY: live, and no slice into tensors is out.
        let status = unsafe { c::TfLiteInterpreterAllocateTensors(self.pointer.as_ptr()) };
        self.check(status, "allocating the tensors")?;
        for index in 0..self.input_count() {
            let tensor = self.input_tensor(index)?;
            let (data, bytes) = self.writable(tensor)?;
            // SAFETY: the tensor's memory, that many bytes, ours to write; it comes uninitialised from the runtime.
            unsafe { data.as_ptr().cast::<u8>().write_bytes(0, bytes) };
        }
        Ok(())
    }

    /// Runs the graph.
    pub(crate) fn invoke(&mut self) -> Result<(), RuntimeError> {
        self.has_run = false;
        // SAFETY: live, used by this thread alone (`&mut`), and no slice into tensors is out. It returns when all is
        // computed.
        let status = unsafe { c::TfLiteInterpreterInvoke(self.pointer.as_ptr()) };
        self.check(status, "the run")?;
        self.has_run = true;
        Ok(())
    }

    pub(crate) fn input_count(&self) -> usize {
        // SAFETY: live.
        let count = unsafe { c::TfLiteInterpreterGetInputTensorCount(self.pointer.as_ptr()) };
        usize::try_from(count).unwrap_or(0)
    }

    pub(crate) fn output_count(&self) -> usize {
        // SAFETY: live.
        let count = unsafe { c::TfLiteInterpreterGetOutputTensorCount(self.pointer.as_ptr()) };
        usize::try_from(count).unwrap_or(0)
    }

    pub(crate) fn input_info(&self, index: usize) -> Result<TensorInfo, RuntimeError> {
        self.input_tensor(index).map(TensorRef::info)
    }

    pub(crate) fn output_info(&self, index: usize) -> Result<TensorInfo, RuntimeError> {
        self.output_tensor(index).map(TensorRef::info)
    }

    /// The numbers of an input, to be filled in place.
    pub(crate) fn input(&mut self, index: usize) -> Result<TensorDataMut<'_>, RuntimeError> {
        let tensor = self.input_tensor(index)?;
        let (data, bytes) = self.writable(tensor)?;
        // SAFETY, for each: the tensor's own memory of that many bytes, zeroed by `allocate` and since then only
        // written, aligned for the type; in our hands alone while the interpreter is borrowed mutably. Every bit
        // pattern is a number of the type.
        match tensor.dtype() {
            TensorType::F32 => {
                let (data, count) = aligned::<f32>(data, bytes)?;
                // SAFETY: see above.
                let data = unsafe { slice::from_raw_parts_mut(data.as_ptr(), count) };
                Ok(TensorDataMut::F32(data))
            }
            TensorType::U8 => {
                // SAFETY: see above.
                let data = unsafe { slice::from_raw_parts_mut(data.as_ptr().cast(), bytes) };
                Ok(TensorDataMut::U8(data))
            }
            TensorType::I8 => {
                // SAFETY: see above.
                let data = unsafe { slice::from_raw_parts_mut(data.as_ptr().cast(), bytes) };
                Ok(TensorDataMut::I8(data))
            }
            other @ TensorType::Other(_) => Err(RuntimeError(format!("an input of {other}"))),
        }
    }

    /// The numbers of an output, which the last run wrote.
    pub(crate) fn output(&self, index: usize) -> Result<TensorData<'_>, RuntimeError> {
        if !self.has_run {
            return Err(RuntimeError("there was no run that went well".to_owned()));
        }
        let tensor = self.output_tensor(index)?;
        let (data, bytes) = tensor.memory()?;
        // SAFETY, for each: the tensor's own memory of that many bytes, written by the run before, aligned for the
        // type; nobody writes it while the interpreter is borrowed. Every bit pattern is a number of the type.
        match tensor.dtype() {
            TensorType::F32 => {
                let (data, count) = aligned::<f32>(data, bytes)?;
                // SAFETY: see above.
                let data = unsafe { slice::from_raw_parts(data.as_ptr(), count) };
                Ok(TensorData::F32(data))
            }
            TensorType::U8 => {
                // SAFETY: see above.
                let data = unsafe { slice::from_raw_parts(data.as_ptr().cast(), bytes) };
                Ok(TensorData::U8(data))
            }
            TensorType::I8 => {
                // SAFETY: see above.
                let data = unsafe { slice::from_raw_parts(data.as_ptr().cast(), bytes) };
                Ok(TensorData::I8(data))
            }
            other @ TensorType::Other(_) => Err(RuntimeError(format!("an output of {other}"))),
        }
    }

    fn check(&self, status: c_int, asked: &str) -> Result<(), RuntimeError> {
        if status == c::OK {
            // Warnings of what went well would stand before the next error's reason.
            self.words.take();
            return Ok(());
        }
        Err(refusal(&self.words, asked))
    }

    fn input_tensor(&self, index: usize) -> Result<TensorRef<'_>, RuntimeError> {
        let pointer = i32::try_from(index)
            .ok()
            .filter(|_| index < self.input_count())
            // SAFETY: live; the index is in range.
            .map(|i| unsafe { c::TfLiteInterpreterGetInputTensor(self.pointer.as_ptr(), i) });
        match pointer.and_then(NonNull::new) {
            Some(pointer) => Ok(TensorRef(pointer, PhantomData)),
            None => Err(RuntimeError(format!("there is no input {index}"))),
        }
    }

    fn output_tensor(&self, index: usize) -> Result<TensorRef<'_>, RuntimeError> {
        let pointer = i32::try_from(index)
            .ok()
            .filter(|_| index < self.output_count())
            // SAFETY: live; the index is in range.
            .map(|i| unsafe { c::TfLiteInterpreterGetOutputTensor(self.pointer.as_ptr(), i) });
        match pointer.and_then(|pointer| NonNull::new(pointer.cast_mut())) {
            Some(pointer) => Ok(TensorRef(pointer, PhantomData)),
            None => Err(RuntimeError(format!("there is no output {index}"))),
        }
    }

    /// The memory of an input; not where that is the model file itself.
    fn writable(&self, tensor: TensorRef<'_>) -> Result<(NonNull<c_void>, usize), RuntimeError> {
        let (data, bytes) = tensor.memory()?;
        if self.model.holds(data.as_ptr()) {
            return Err(RuntimeError("an input that is a constant".to_owned()));
        }
        Ok((data, bytes))
    }
}

impl Drop for RawInterpreter {
    fn drop(&mut self) {
        // SAFETY: live, ours, deleted once. Delegates, words and model, which it refers to, are dropped after this.
        unsafe { c::TfLiteInterpreterDelete(self.pointer.as_ptr()) }
    }
}

/// A tensor of an interpreter that is borrowed, thus alive and at rest. Only read through; never null.
#[derive(Clone, Copy)]
struct TensorRef<'a>(NonNull<c::Tensor>, PhantomData<&'a RawInterpreter>);

impl TensorRef<'_> {
    fn dtype(self) -> TensorType {
        // SAFETY: alive.
        match unsafe { c::TfLiteTensorType(self.0.as_ptr()) } {
            1 => TensorType::F32,
            3 => TensorType::U8,
            9 => TensorType::I8,
            other => TensorType::Other(other),
        }
    }

    fn info(self) -> TensorInfo {
        let tensor = self.0.as_ptr();
        // SAFETY: alive; dimensions are asked for within their number.
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
        let quantisation = unsafe { c::TfLiteTensorQuantizationParams(tensor) };
        TensorInfo {
            name,
            dtype: self.dtype(),
            shape: (0..dimensions).map(dimension).collect(),
            scale: quantisation.scale,
            zero_point: quantisation.zero_point,
        }
    }

    /// Where its numbers lie and how many bytes they are.
    fn memory(self) -> Result<(NonNull<c_void>, usize), RuntimeError> {
        let tensor = self.0.as_ptr();
        // SAFETY: alive; both calls only read the tensor's head.
        let (data, bytes) =
            unsafe { (c::TfLiteTensorData(tensor), c::TfLiteTensorByteSize(tensor)) };
        match NonNull::new(data) {
            Some(data) => Ok((data, bytes)),
            None => Err(RuntimeError("a tensor without memory".to_owned())),
        }
    }
}

/// The same memory as numbers of `T`, where it is aligned for them.
fn aligned<T>(data: NonNull<c_void>, bytes: usize) -> Result<(NonNull<T>, usize), RuntimeError> {
    let data = data.cast::<T>();
    if data.is_aligned() {
        Ok((data, bytes / size_of::<T>()))
    } else {
        Err(RuntimeError("a tensor that is not aligned".to_owned()))
    }
}
