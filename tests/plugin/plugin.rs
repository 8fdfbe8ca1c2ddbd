//! A TFLite delegate plugin that stands in for an accelerator. It claims nodes and computes them correctly,
//! incorrectly, slowly or not at all, depending on its options. `tests/support/plugin.rs` compiles it. It uses the
//! TFLite library of the process that loads it.
//!
//! | option | effect |
//! | --- | --- |
//! | `mode` | `none` claims no node (default); `right` claims all and runs them in a second interpreter; `wrong` does the same but adds `off` to every f32 output; `part` claims the additions; `null` creates no delegate |
//! | `model` | for `right` and `wrong`: a `.tflite` file; may be given more than once, the file with the graph's tensor sizes is used |
//! | `kernels` | of the second interpreter: `xnnpack` (default) or `plain` |
//! | `off` | the number that `wrong` adds; default 8 |
//! | `deep` | `yes`: `wrong` changes only the depths of landmarks |
//! | `dynamic` | `yes`: allows dynamic tensors in the graph, as plugins for compiled models do |
//! | `delay_ms` | delay of every run |
//! | `fail_at` | number of the run that fails, counted from 1; with `fail_from` all runs from that number on fail |
//! | `marker` | a file: runs fail only while it does not exist, and a failure creates it |
//! | `while` | a file: runs fail, and `abort` and `hang` happen, only while it exists |
//! | `memo` | `yes`: caches the outputs of each input, so that a repeated input is as fast as on an accelerator |
//! | `abort`, `hang` | `create`, `prepare` or `invoke`: the step at which the process ends by SIGABRT, or at which the call never returns |
//! | `log` | a file that gets a line `open` for each created delegate, `close` for each destroyed one, and `hang` before a hang |
//! | `after` | for `abort` and `hang` at `invoke`: number of runs that succeed before |
//!
//! Any other option is refused with a message.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::ptr;
use std::time::Duration;

const OK: c_int = 0;
const ERROR: c_int = 1;
const F32: c_int = 1;
const ADD: c_int = 0;
const DELEGATE: c_int = 51;

enum Context {}
enum Delegate {}
enum Interpreter {}
enum Model {}
enum Node {}
enum Operator {}
enum Options {}
enum OpaqueTensor {}
enum Tensor {}

#[repr(C)]
struct IntArray {
    size: c_int,
    data: [c_int; 0],
}

#[repr(C)]
struct Builder {
    data: *mut c_void,
    prepare: unsafe extern "C" fn(*mut Context, *mut Delegate, *mut c_void) -> c_int,
    copy_from_buffer_handle: *const c_void,
    copy_to_buffer_handle: *const c_void,
    free_buffer_handle: *const c_void,
    flags: i64,
}

#[repr(C)]
struct Params {
    delegate: *mut Delegate,
    delegate_data: *mut c_void,
    nodes_to_replace: *const IntArray,
    input_tensors: *const IntArray,
    output_tensors: *const IntArray,
}

#[repr(C)]
struct Xnnpack {
    num_threads: i32,
    flags: u32,
    rest: [MaybeUninit<u8>; 120],
}

type Init = unsafe extern "C" fn(*mut c_void, *mut Context, *const c_char, usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*mut c_void, *mut Context, *mut c_void);
type Run = unsafe extern "C" fn(*mut c_void, *mut Context, *mut Node) -> c_int;

unsafe extern "C" {
    fn TfLiteIntArrayCreate(size: c_int) -> *mut IntArray;
    fn TfLiteIntArrayFree(array: *mut IntArray);
    fn TfLiteOpaqueDelegateCreate(builder: *const Builder) -> *mut Delegate;
    fn TfLiteOpaqueDelegateDelete(delegate: *mut Delegate);
    fn TfLiteOpaqueDelegateGetData(delegate: *const Delegate) -> *mut c_void;
    fn TfLiteOpaqueContextGetExecutionPlan(c: *mut Context, plan: *mut *mut IntArray) -> c_int;
    fn TfLiteOpaqueContextGetNodeAndRegistration(
        c: *mut Context,
        index: c_int,
        node: *mut *mut Node,
        operator: *mut *mut Operator,
    ) -> c_int;
    fn TfLiteOpaqueContextReplaceNodeSubsetsWithDelegateKernels(
        c: *mut Context,
        operator: *mut Operator,
        nodes: *const IntArray,
        delegate: *mut Delegate,
    ) -> c_int;
    fn TfLiteOpaqueContextGetInputs(
        c: *const Context,
        i: *mut *const c_int,
        n: *mut c_int,
    ) -> c_int;
    fn TfLiteOpaqueContextGetOutputs(
        c: *const Context,
        i: *mut *const c_int,
        n: *mut c_int,
    ) -> c_int;
    fn TfLiteOpaqueContextGetOpaqueTensor(c: *const Context, index: c_int) -> *mut OpaqueTensor;
    fn TfLiteOpaqueContextReportError(c: *mut Context, format: *const c_char, ...);
    fn TfLiteOperatorGetBuiltInCode(operator: *const Operator) -> c_int;
    fn TfLiteOperatorCreate(
        builtin: c_int,
        name: *const c_char,
        version: c_int,
        user: *mut c_void,
    ) -> *mut Operator;
    fn TfLiteOperatorSetInitWithData(operator: *mut Operator, init: Init) -> c_int;
    fn TfLiteOperatorSetFreeWithData(operator: *mut Operator, free: Free) -> c_int;
    fn TfLiteOperatorSetPrepareWithData(operator: *mut Operator, prepare: Run) -> c_int;
    fn TfLiteOperatorSetInvokeWithData(operator: *mut Operator, invoke: Run) -> c_int;
    fn TfLiteOpaqueNodeGetUserData(node: *const Node) -> *mut c_void;
    fn TfLiteOpaqueNodeGetBuiltinData(node: *const Node) -> *mut c_void;
    fn TfLiteOpaqueNodeInputs(node: *const Node, i: *mut *const c_int, n: *mut c_int) -> c_int;
    fn TfLiteOpaqueNodeOutputs(node: *const Node, i: *mut *const c_int, n: *mut c_int) -> c_int;
    fn TfLiteOpaqueTensorType(tensor: *const OpaqueTensor) -> c_int;
    fn TfLiteOpaqueTensorData(tensor: *const OpaqueTensor) -> *mut c_void;
    fn TfLiteOpaqueTensorByteSize(tensor: *const OpaqueTensor) -> usize;

    fn TfLiteModelCreateFromFile(path: *const c_char) -> *mut Model;
    fn TfLiteModelDelete(model: *mut Model);
    fn TfLiteInterpreterOptionsCreate() -> *mut Options;
    fn TfLiteInterpreterOptionsDelete(options: *mut Options);
    fn TfLiteInterpreterOptionsSetNumThreads(options: *mut Options, n: i32);
    fn TfLiteInterpreterOptionsAddDelegate(options: *mut Options, delegate: *mut Delegate);
    fn TfLiteInterpreterCreate(m: *const Model, o: *const Options) -> *mut Interpreter;
    fn TfLiteInterpreterDelete(interpreter: *mut Interpreter);
    fn TfLiteInterpreterAllocateTensors(interpreter: *mut Interpreter) -> c_int;
    fn TfLiteInterpreterInvoke(interpreter: *mut Interpreter) -> c_int;
    fn TfLiteInterpreterGetInputTensor(i: *const Interpreter, index: i32) -> *mut Tensor;
    fn TfLiteInterpreterGetOutputTensorCount(i: *const Interpreter) -> i32;
    fn TfLiteInterpreterGetOutputTensor(i: *const Interpreter, index: i32) -> *const Tensor;
    fn TfLiteTensorByteSize(tensor: *const Tensor) -> usize;
    fn TfLiteTensorData(tensor: *const Tensor) -> *mut c_void;
    fn TfLiteXNNPackDelegateOptionsDefault() -> Xnnpack;
    fn TfLiteXNNPackDelegateCreate(options: *const Xnnpack) -> *mut Delegate;
    fn TfLiteXNNPackDelegateDelete(delegate: *mut Delegate);
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    None,
    Right,
    Wrong,
    Part,
    Null,
}

/// The options, and how often the delegate has run.
struct State {
    mode: Mode,
    models: Vec<CString>,
    is_plain: bool,
    is_dynamic: bool,
    off: f32,
    is_deep: bool,
    after: u64,
    delay: Duration,
    fail_at: u64,
    fail_from: u64,
    marker: Option<PathBuf>,
    only_while: Option<PathBuf>,
    /// Outputs by hash of the input.
    memo: Option<HashMap<u64, Vec<Vec<u8>>>>,
    abort: String,
    hang: String,
    log: Option<PathBuf>,
    runs: u64,
}

impl State {
    fn new(options: &[(String, String)]) -> Result<Self, String> {
        let mut state = Self {
            mode: Mode::None,
            models: Vec::new(),
            is_plain: false,
            is_dynamic: false,
            off: 8.0,
            is_deep: false,
            after: 0,
            delay: Duration::ZERO,
            fail_at: 0,
            fail_from: u64::MAX,
            marker: None,
            only_while: None,
            memo: None,
            abort: String::new(),
            hang: String::new(),
            log: None,
            runs: 0,
        };
        for (key, value) in options {
            let bad = || format!("test plugin: {key} cannot be {value}");
            match key.as_str() {
                "mode" => {
                    state.mode = match value.as_str() {
                        "none" => Mode::None,
                        "right" => Mode::Right,
                        "wrong" => Mode::Wrong,
                        "part" => Mode::Part,
                        "null" => Mode::Null,
                        _ => return Err(bad()),
                    }
                }
                "model" => state
                    .models
                    .push(CString::new(value.as_str()).map_err(|_| bad())?),
                "kernels" => state.is_plain = value == "plain",
                "dynamic" => state.is_dynamic = value == "yes",
                "deep" => state.is_deep = value == "yes",
                "after" => state.after = value.parse().map_err(|_| bad())?,
                "off" => state.off = value.parse().map_err(|_| bad())?,
                "delay_ms" => {
                    state.delay = Duration::from_millis(value.parse().map_err(|_| bad())?);
                }
                "fail_at" => state.fail_at = value.parse().map_err(|_| bad())?,
                "fail_from" => state.fail_from = value.parse().map_err(|_| bad())?,
                "marker" => state.marker = Some(PathBuf::from(value)),
                "while" => state.only_while = Some(PathBuf::from(value)),
                "memo" => state.memo = (value == "yes").then(HashMap::new),
                "abort" => state.abort.clone_from(value),
                "hang" => state.hang.clone_from(value),
                "log" => state.log = Some(PathBuf::from(value)),
                _ => return Err(format!("test plugin: there is no option {key}")),
            }
        }
        Ok(state)
    }

    /// Whether faults are enabled, depending on the option `while`.
    fn faults_enabled(&self) -> bool {
        self.only_while.as_ref().is_none_or(|file| file.exists())
    }

    /// Appends a line to the log in one write.
    fn note(&self, word: &str) {
        let Some(log) = &self.log else { return };
        let file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(log);
        let written = file.and_then(|mut file| file.write_all(format!("{word}\n").as_bytes()));
        if let Err(error) = written {
            eprintln!("test plugin: {}: {error}", log.display());
        }
    }

    fn abort_or_hang_at(&self, name: &str) {
        if !self.faults_enabled() || (name == "invoke" && self.runs < self.after) {
            return;
        }
        if self.abort == name {
            std::process::abort();
        }
        if self.hang == name {
            self.note("hang");
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }

    /// Counts this run and returns whether it must fail.
    fn fails(&mut self) -> bool {
        self.runs += 1;
        if (self.runs != self.fail_at && self.runs < self.fail_from) || !self.faults_enabled() {
            return false;
        }
        match &self.marker {
            Some(marker) if marker.exists() => false,
            Some(marker) => std::fs::write(marker, "").is_ok(),
            None => true,
        }
    }
}

/// The second interpreter with its model and delegate.
struct InnerInterpreter {
    model: *mut Model,
    interpreter: *mut Interpreter,
    xnnpack: *mut Delegate,
}

impl InnerInterpreter {
    unsafe fn new(path: &CStr, is_plain: bool) -> Option<Self> {
        unsafe {
            let model = TfLiteModelCreateFromFile(path.as_ptr());
            if model.is_null() {
                return None;
            }
            let options = TfLiteInterpreterOptionsCreate();
            TfLiteInterpreterOptionsSetNumThreads(options, 1);
            let mut xnnpack = ptr::null_mut();
            if !is_plain {
                let mut xnnpack_options = TfLiteXNNPackDelegateOptionsDefault();
                xnnpack_options.num_threads = 1;
                xnnpack = TfLiteXNNPackDelegateCreate(&raw const xnnpack_options);
                TfLiteInterpreterOptionsAddDelegate(options, xnnpack);
            }
            let interpreter = TfLiteInterpreterCreate(model, options);
            TfLiteInterpreterOptionsDelete(options);
            let second = Self {
                model,
                interpreter,
                xnnpack,
            };
            let is_ready =
                !interpreter.is_null() && TfLiteInterpreterAllocateTensors(interpreter) == OK;
            is_ready.then_some(second)
        }
    }

    /// The outputs for `input`; `None` when the run fails.
    unsafe fn run(&self, input: &[u8]) -> Option<Vec<Vec<u8>>> {
        unsafe {
            let to = TfLiteInterpreterGetInputTensor(self.interpreter, 0);
            ptr::copy_nonoverlapping(input.as_ptr(), TfLiteTensorData(to).cast(), input.len());
            if TfLiteInterpreterInvoke(self.interpreter) != OK {
                return None;
            }
            let count = TfLiteInterpreterGetOutputTensorCount(self.interpreter);
            let output = |i| {
                let from = TfLiteInterpreterGetOutputTensor(self.interpreter, i);
                let data = TfLiteTensorData(from).cast::<u8>();
                std::slice::from_raw_parts(data, TfLiteTensorByteSize(from)).to_vec()
            };
            Some((0..count).map(output).collect())
        }
    }

    /// Whether its tensors have the sizes of the graph that it replaces.
    unsafe fn fits(&self, context: *const Context, inputs: &[c_int], outputs: &[c_int]) -> bool {
        unsafe {
            let size = |index| {
                TfLiteOpaqueTensorByteSize(TfLiteOpaqueContextGetOpaqueTensor(context, index))
            };
            let count = TfLiteInterpreterGetOutputTensorCount(self.interpreter);
            inputs.len() == 1
                && outputs.len() == usize::try_from(count).unwrap_or(0)
                && size(inputs[0])
                    == TfLiteTensorByteSize(TfLiteInterpreterGetInputTensor(self.interpreter, 0))
                && (0..count).zip(outputs).all(|(i, output)| {
                    let tensor = TfLiteInterpreterGetOutputTensor(self.interpreter, i);
                    size(*output) == TfLiteTensorByteSize(tensor)
                })
        }
    }
}

impl Drop for InnerInterpreter {
    fn drop(&mut self) {
        unsafe {
            if !self.interpreter.is_null() {
                TfLiteInterpreterDelete(self.interpreter);
            }
            if !self.xnnpack.is_null() {
                TfLiteXNNPackDelegateDelete(self.xnnpack);
            }
            TfLiteModelDelete(self.model);
        }
    }
}

/// `to = a + b`, clamped at 0 (`ReLU`) if `is_cut`.
struct Sum {
    a: c_int,
    b: c_int,
    to: c_int,
    is_relu: bool,
}

/// The computation that replaces a group of nodes.
enum KernelKind {
    Whole {
        second: InnerInterpreter,
        input: c_int,
        outputs: Vec<c_int>,
    },
    Sums(Vec<Sum>),
}

struct Kernel {
    state: *mut State,
    work: KernelKind,
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

unsafe fn ints<'a>(array: *const IntArray) -> &'a [c_int] {
    unsafe {
        let size = usize::try_from((*array).size).unwrap_or(0);
        std::slice::from_raw_parts((&raw const (*array).data).cast(), size)
    }
}

/// Calls a function that returns an array through two output parameters.
unsafe fn slice_from<'a>(call: impl FnOnce(*mut *const c_int, *mut c_int) -> c_int) -> &'a [c_int] {
    let (mut start, mut count) = (ptr::null(), 0);
    if call(&raw mut start, &raw mut count) != OK || start.is_null() {
        return &[];
    }
    unsafe { std::slice::from_raw_parts(start, usize::try_from(count).unwrap_or(0)) }
}

/// The node as a sum of two f32 tensors of equal size; `None` for any other node.
unsafe fn sum(context: *mut Context, index: c_int) -> Option<Sum> {
    unsafe {
        let (mut node, mut operator) = (ptr::null_mut(), ptr::null_mut());
        let status = TfLiteOpaqueContextGetNodeAndRegistration(
            context,
            index,
            &raw mut node,
            &raw mut operator,
        );
        if status != OK || TfLiteOperatorGetBuiltInCode(operator) != ADD {
            return None;
        }
        let inputs = slice_from(|i, n| TfLiteOpaqueNodeInputs(node, i, n));
        let outputs = slice_from(|i, n| TfLiteOpaqueNodeOutputs(node, i, n));
        let (&[a, b], &[to]) = (inputs, outputs) else {
            return None;
        };
        let tensor = |i| TfLiteOpaqueContextGetOpaqueTensor(context, i);
        let size = |i| TfLiteOpaqueTensorByteSize(tensor(i));
        let is_plain = [a, b, to]
            .iter()
            .all(|&i| TfLiteOpaqueTensorType(tensor(i)) == F32 && size(i) == size(to));
        let data = TfLiteOpaqueNodeGetBuiltinData(node).cast::<c_int>();
        let activation = if data.is_null() { 0 } else { *data };
        (is_plain && activation <= 1).then_some(Sum {
            a,
            b,
            to,
            is_relu: activation == 1,
        })
    }
}

unsafe extern "C" fn prepare_delegate(
    context: *mut Context,
    delegate: *mut Delegate,
    data: *mut c_void,
) -> c_int {
    unsafe {
        let state = &*data.cast::<State>();
        state.abort_or_hang_at("prepare");
        let mut plan = ptr::null_mut();
        if TfLiteOpaqueContextGetExecutionPlan(context, &raw mut plan) != OK {
            return ERROR;
        }
        let plan = ints(plan).to_vec();
        let chosen: Vec<c_int> = match state.mode {
            Mode::None | Mode::Null => Vec::new(),
            Mode::Right | Mode::Wrong => plan,
            Mode::Part => {
                // Skips nodes that need the result of a claimed node: such tensors have no memory.
                let mut written = Vec::new();
                let mut chosen = Vec::new();
                for index in plan {
                    if let Some(sum) = sum(context, index)
                        && !written.contains(&sum.a)
                        && !written.contains(&sum.b)
                    {
                        written.push(sum.to);
                        chosen.push(index);
                    }
                }
                chosen
            }
        };
        if chosen.is_empty() {
            return OK;
        }
        let kernel = TfLiteOperatorCreate(DELEGATE, c"TestPlugin".as_ptr(), 1, ptr::null_mut());
        TfLiteOperatorSetInitWithData(kernel, init);
        TfLiteOperatorSetFreeWithData(kernel, free);
        TfLiteOperatorSetPrepareWithData(kernel, prepare);
        TfLiteOperatorSetInvokeWithData(kernel, invoke);
        let array = TfLiteIntArrayCreate(c_int::try_from(chosen.len()).unwrap_or(0));
        let to = (&raw mut (*array).data).cast::<c_int>();
        ptr::copy_nonoverlapping(chosen.as_ptr(), to, chosen.len());
        let status = TfLiteOpaqueContextReplaceNodeSubsetsWithDelegateKernels(
            context, kernel, array, delegate,
        );
        TfLiteIntArrayFree(array);
        status
    }
}

unsafe extern "C" fn init(
    _user: *mut c_void,
    context: *mut Context,
    params: *const c_char,
    _length: usize,
) -> *mut c_void {
    unsafe {
        let params = &*params.cast::<Params>();
        // Only newer libraries pass the operator's user data.
        let state = params.delegate_data.cast::<State>();
        let nodes = ints(params.nodes_to_replace);
        let work = if (*state).mode == Mode::Part {
            Some(KernelKind::Sums(
                nodes.iter().filter_map(|&i| sum(context, i)).collect(),
            ))
        } else {
            let inputs = slice_from(|i, n| TfLiteOpaqueContextGetInputs(context, i, n));
            let outputs = slice_from(|i, n| TfLiteOpaqueContextGetOutputs(context, i, n));
            (*state)
                .models
                .iter()
                .filter_map(|path| InnerInterpreter::new(path, (*state).is_plain))
                .find(|second| second.fits(context, inputs, outputs))
                .map(|second| KernelKind::Whole {
                    second,
                    input: inputs[0],
                    outputs: outputs.to_vec(),
                })
        };
        work.map_or(ptr::null_mut(), |work| {
            Box::into_raw(Box::new(Kernel { state, work })).cast()
        })
    }
}

unsafe extern "C" fn free(_user: *mut c_void, _context: *mut Context, kernel: *mut c_void) {
    if !kernel.is_null() {
        drop(unsafe { Box::from_raw(kernel.cast::<Kernel>()) });
    }
}

unsafe extern "C" fn prepare(_user: *mut c_void, context: *mut Context, node: *mut Node) -> c_int {
    unsafe {
        if TfLiteOpaqueNodeGetUserData(node).is_null() {
            let words = c"test plugin: none of the models has the sizes of the graph";
            TfLiteOpaqueContextReportError(context, words.as_ptr());
            return ERROR;
        }
    }
    OK
}

unsafe extern "C" fn invoke(_user: *mut c_void, context: *mut Context, node: *mut Node) -> c_int {
    unsafe {
        let kernel = &*TfLiteOpaqueNodeGetUserData(node).cast::<Kernel>();
        let state = &mut *kernel.state;
        state.abort_or_hang_at("invoke");
        std::thread::sleep(state.delay);
        if state.fails() {
            let words = c"test plugin: the device went away at run %d";
            let run = c_int::try_from(state.runs).unwrap_or(0);
            TfLiteOpaqueContextReportError(context, words.as_ptr(), run);
            return ERROR;
        }
        let tensor = |i| TfLiteOpaqueContextGetOpaqueTensor(context, i);
        match &kernel.work {
            KernelKind::Whole {
                second,
                input,
                outputs,
            } => {
                let given = std::slice::from_raw_parts(
                    TfLiteOpaqueTensorData(tensor(*input)).cast::<u8>(),
                    TfLiteOpaqueTensorByteSize(tensor(*input)),
                );
                let key = hash(given);
                let known = state.memo.as_ref().and_then(|memo| memo.get(&key));
                let results = match known {
                    Some(known) => known.clone(),
                    None => {
                        let Some(results) = second.run(given) else {
                            return ERROR;
                        };
                        if let Some(memo) = &mut state.memo {
                            memo.insert(key, results.clone());
                        }
                        results
                    }
                };
                for (result, output) in results.iter().zip(outputs) {
                    let (to, bytes) = (tensor(*output), result.len());
                    let data = TfLiteOpaqueTensorData(to);
                    ptr::copy_nonoverlapping(result.as_ptr(), data.cast(), bytes);
                    if state.mode == Mode::Wrong && TfLiteOpaqueTensorType(to) == F32 {
                        let values = std::slice::from_raw_parts_mut(data.cast::<f32>(), bytes / 4);
                        // 21 landmarks with x, y, z.
                        let is_landmarks = values.len() == 63;
                        for (i, value) in values.iter_mut().enumerate() {
                            if !state.is_deep || (is_landmarks && i % 3 == 2) {
                                *value += state.off;
                            }
                        }
                    }
                }
            }
            KernelKind::Sums(sums) => {
                for sum in sums {
                    let floats = |i| TfLiteOpaqueTensorData(tensor(i)).cast::<f32>();
                    let (a, b, to) = (floats(sum.a), floats(sum.b), floats(sum.to));
                    for i in 0..TfLiteOpaqueTensorByteSize(tensor(sum.to)) / 4 {
                        let value = *a.add(i) + *b.add(i);
                        *to.add(i) = if sum.is_relu { value.max(0.0) } else { value };
                    }
                }
            }
        }
        OK
    }
}

/// The plugin protocol's first function.
///
/// # Safety
/// `keys` and `values` are arrays of `count` strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tflite_plugin_create_delegate(
    keys: *const *const c_char,
    values: *const *const c_char,
    count: usize,
    report: Option<unsafe extern "C" fn(*const c_char)>,
) -> *mut c_void {
    unsafe {
        let text = |strings: *const *const c_char, i| {
            CStr::from_ptr(*strings.add(i))
                .to_string_lossy()
                .into_owned()
        };
        let options: Vec<(String, String)> = (0..count)
            .map(|i| (text(keys, i), text(values, i)))
            .collect();
        let state = match State::new(&options) {
            Ok(state) => Box::new(state),
            Err(words) => {
                if let (Some(report), Ok(words)) = (report, CString::new(words)) {
                    report(words.as_ptr());
                }
                return ptr::null_mut();
            }
        };
        state.abort_or_hang_at("create");
        if state.mode == Mode::Null {
            return ptr::null_mut();
        }
        state.note("open");
        let flags = i64::from(state.is_dynamic);
        let builder = Builder {
            data: Box::into_raw(state).cast(),
            prepare: prepare_delegate,
            copy_from_buffer_handle: ptr::null(),
            copy_to_buffer_handle: ptr::null(),
            free_buffer_handle: ptr::null(),
            flags,
        };
        TfLiteOpaqueDelegateCreate(&raw const builder).cast()
    }
}

/// The plugin protocol's second function.
///
/// # Safety
/// `delegate` comes from [`tflite_plugin_create_delegate`] and is destroyed once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tflite_plugin_destroy_delegate(delegate: *mut c_void) {
    unsafe {
        let delegate = delegate.cast::<Delegate>();
        let state = TfLiteOpaqueDelegateGetData(delegate).cast::<State>();
        TfLiteOpaqueDelegateDelete(delegate);
        let state = Box::from_raw(state);
        state.note("close");
    }
}
