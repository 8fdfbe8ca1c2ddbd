"""Runs a model in the pinned TensorFlow Lite C library with XNNPACK on one thread, as Handloom's backend `cpu` does."""
import ctypes
import pathlib
import platform

import numpy as np

LIBRARY = pathlib.Path(__file__).resolve().parent.parent / "fetched" / platform.machine() / "libtensorflowlite_c.so"
# XNNPACK's flag: half-precision arithmetic, emulated where the processor or the kernels lack it.
FORCE_FP16 = 4
TYPES = {1: np.float32, 9: np.int8}
POINTER, INT = ctypes.c_void_p, ctypes.c_int


class Options(ctypes.Structure):
    """XNNPACK's options, with space for the fields of newer libraries, since the library returns them by value."""
    _fields_ = [("threads", ctypes.c_int32), ("flags", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 120)]


class Quantization(ctypes.Structure):
    _fields_ = [("scale", ctypes.c_float), ("zero_point", ctypes.c_int32)]


FUNCTIONS = {
    "ModelCreate": (POINTER, [ctypes.c_char_p, ctypes.c_size_t]),
    "InterpreterOptionsCreate": (POINTER, []),
    "InterpreterOptionsSetNumThreads": (None, [POINTER, INT]),
    "InterpreterOptionsAddDelegate": (None, [POINTER, POINTER]),
    "InterpreterCreate": (POINTER, [POINTER, POINTER]),
    "InterpreterAllocateTensors": (INT, [POINTER]),
    "InterpreterInvoke": (INT, [POINTER]),
    "InterpreterGetInputTensor": (POINTER, [POINTER, INT]),
    "InterpreterGetOutputTensorCount": (INT, [POINTER]),
    "InterpreterGetOutputTensor": (POINTER, [POINTER, INT]),
    "TensorData": (POINTER, [POINTER]),
    "TensorByteSize": (ctypes.c_size_t, [POINTER]),
    "TensorType": (INT, [POINTER]),
    "TensorNumDims": (INT, [POINTER]),
    "TensorDim": (INT, [POINTER, INT]),
    "TensorName": (ctypes.c_char_p, [POINTER]),
    "TensorQuantizationParams": (Quantization, [POINTER]),
    "XNNPackDelegateOptionsDefault": (Options, []),
    "XNNPackDelegateCreate": (POINTER, [ctypes.POINTER(Options)]),
}


def _load(path):
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in FUNCTIONS.items():
        function = getattr(library, "TfLite" + name)
        function.restype, function.argtypes = result, arguments
    return lambda name, *arguments: getattr(library, "TfLite" + name)(*arguments)


class Model:
    """A model in memory. A call with a float image returns the outputs by name, as floats."""

    def __init__(self, content, flags=0, library=LIBRARY):
        self.call = _load(library)
        # The library reads the weights from this buffer.
        self.content = content
        options = self.call("InterpreterOptionsCreate")
        self.call("InterpreterOptionsSetNumThreads", options, 1)
        xnnpack = self.call("XNNPackDelegateOptionsDefault")
        xnnpack.threads = 1
        xnnpack.flags |= flags
        self.call("InterpreterOptionsAddDelegate", options, self.call("XNNPackDelegateCreate", ctypes.byref(xnnpack)))
        self.interpreter = self.call("InterpreterCreate", self.call("ModelCreate", content, len(content)), options)
        if not self.interpreter or self.call("InterpreterAllocateTensors", self.interpreter) != 0:
            raise RuntimeError("TensorFlow Lite refuses the model (%d bytes); see its message above" % len(content))
        self.input = self.call("InterpreterGetInputTensor", self.interpreter, 0)

    def _view(self, tensor):
        memory = (ctypes.c_uint8 * self.call("TensorByteSize", tensor)).from_address(self.call("TensorData", tensor))
        shape = [self.call("TensorDim", tensor, i) for i in range(self.call("TensorNumDims", tensor))]
        return np.frombuffer(memory, TYPES[self.call("TensorType", tensor)]).reshape(shape)

    def __call__(self, image):
        target = self._view(self.input)
        if target.dtype == np.int8:
            units = self.call("TensorQuantizationParams", self.input)
            image = np.clip(np.rint(image / np.float32(units.scale)) + units.zero_point, -128, 127)
        target[...] = image
        if self.call("InterpreterInvoke", self.interpreter) != 0:
            raise RuntimeError("TensorFlow Lite failed to run the model; see its message above")
        tensors = [self.call("InterpreterGetOutputTensor", self.interpreter, i)
                   for i in range(self.call("InterpreterGetOutputTensorCount", self.interpreter))]
        return {self.call("TensorName", tensor).decode(): self._view(tensor).copy() for tensor in tensors}
