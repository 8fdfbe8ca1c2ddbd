"""The steps from the folded hand model to an int8 model: equalise, quantise, move the heads.

Every machine gets the same bytes. Products, quotients, sums of two, roundings to an integer and conversions between f32
and f64 are single operations that IEEE 754 rounds in one way, on whole arrays, element by element. Minima and maxima do
not depend on their order. Nothing here adds up an array, multiplies matrices or calls exp, log or pow.
"""
import numpy as np

from flatbuffer import table
from graph import (ADD, CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, FULLY_CONNECTED, INT8, INT32, LOGISTIC, MEAN, QUANTIZE, RELU6,
                   WEIGHTS, activations, code, compact, constant, operator_code, tensor_like)

# Largest factor of a channel, and by which factor a scaled channel of a ReLU6 stays below 6.
LARGEST_FACTOR = 32.0
RELU6_MARGIN = 1.15
# Operators that stay float: heads have few weights, and each error of theirs is an error of a landmark.
HEADS = {FULLY_CONNECTED, LOGISTIC, MEAN}
INTEGER_VERSIONS = {CONV_2D: 3, DEPTHWISE_CONV_2D: 3, ADD: 2}


def channel_factors(model, maxima):
    """By tensor, the factors that bring each channel near the largest one, where the graph allows it.

    maxima: by operator, the largest magnitude of each channel of its output on the calibration images.
    """
    graph = model.subgraphs[0]
    group = {index: {index} for index in activations(graph)}
    fixed = set(graph.inputs)
    limits = {}
    for number, operator in enumerate(graph.operators):
        [output], kind = operator.outputs, code(model, operator)
        if kind in (ADD, MEAN):
            # Each input has the channels of the output.
            tied = set().union(*(group[i] for i in [*operator.inputs, output] if i in group))
            group.update(dict.fromkeys(tied, tied))
        elif kind not in (CONV_2D, DEPTHWISE_CONV_2D):
            fixed |= {i for i in [*operator.inputs, output] if i in group} if kind == LOGISTIC else {output}
        elif operator.options.activation == RELU6:
            largest = maxima[number].astype("f8")
            limits[output] = np.where(largest < 6.0 / RELU6_MARGIN, 6.0 / (RELU6_MARGIN * np.maximum(largest, 1e-6)), 1.0)
    produced = {operator.outputs[0]: number for number, operator in enumerate(graph.operators)}
    factors = {}
    for index, tied in group.items():
        channels = graph.tensors[index].shape[-1]
        factor = np.full(channels, 1.0 if tied & fixed else LARGEST_FACTOR)
        for member in sorted(tied - fixed) if not tied & fixed else []:
            largest = maxima[produced[member]].astype("f8")
            factor = np.minimum(factor, largest.max() / np.maximum(largest, 1e-6))
            factor = np.minimum(factor, limits.get(member, LARGEST_FACTOR))
        factors[index] = np.maximum(factor, 1.0)
    return factors


def equalise(model, maxima):
    """Multiplies channels by their factors and divides the next operator's weights by them, so that one scale suits
    all channels.

    Except for rounding, the function stays the same until a channel of a ReLU6 exceeds RELU6_MARGIN times its
    maximum.
    """
    factors = channel_factors(model, maxima)
    for operator in model.subgraphs[0].operators:
        kind = code(model, operator)
        if kind not in WEIGHTS:
            continue
        before, after = factors[operator.inputs[0]], factors[operator.outputs[0]]
        weights, bias = (constant(model, i).astype("f8") for i in operator.inputs[1:3])
        if kind == DEPTHWISE_CONV_2D:
            weights = weights * (after / before)
        else:
            weights = weights * after.reshape([-1] + [1] * (weights.ndim - 1)) / before
        for position, values in (1, weights), (2, bias * after):
            operator.inputs[position] = tensor_like(model, operator.inputs[position], values.astype("<f4"))
    compact(model)


def quantised_weights(weights, axis):
    """The weights as int8, with one scale for each output channel."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scales = np.maximum(np.abs(weights).max(others), np.float32(1e-12)) / np.float32(127)
    return np.clip(np.rint(weights / np.expand_dims(scales, others)), -127, 127).astype("i1"), scales


def bias_scales(input_scale, scales):
    """The scales of the bias: the value of one unit of the products."""
    return np.float64(input_scale) * scales.astype("f8")


def quantise(model, layers, input_numbers, float_operators, integer_input):
    """Makes the operators from `float_operators` to the heads integer, with QUANTIZE and DEQUANTIZE at the borders.

    layers: by operator, scale and zero_point of its output, and the correction of its bias in units of the bias.
    input_numbers: scale and zero_point of the model's input.
    """
    graph = model.subgraphs[0]
    dynamic, tensors = activations(graph), graph.tensors
    number_of = {operator.outputs[0]: number for number, operator in enumerate(graph.operators)}
    integer, operators = {}, []
    floats = set() if integer_input else set(graph.inputs)

    def range_of(index):
        return layers[number_of[index]] if index in number_of else input_numbers

    def quantization(scale, zero_point, dimension=0):
        scale = np.atleast_1d(np.asarray(scale, "<f4"))
        return table("Quantization", scale=scale, zero_point=np.full(len(scale), zero_point, "<i8"), dimension=dimension)

    def as_integer(index, name):
        integer[index] = tensor_like(model, index, type=INT8, name=name,
                                     quantization=quantization(range_of(index)["scale"], range_of(index)["zero_point"]))
        return integer[index]

    def convert(kind, version, source, target):
        operators.append(table("Operator", code=operator_code(model, kind, version), inputs=[source], outputs=[target]))
        return target

    def integer_of(index):
        if index not in integer:
            convert(QUANTIZE, 1, index, as_integer(index, tensors[index].name + b"_q"))
        return integer[index]

    def float_of(index):
        if index not in floats:
            floats.add(index)
            convert(DEQUANTIZE, 2, integer[index], index)
        return index

    if integer_input:
        graph.inputs = [as_integer(index, tensors[index].name) for index in graph.inputs]
    for number, operator in enumerate(graph.operators):
        kind = code(model, operator)
        if number < float_operators or kind in HEADS:
            operator.inputs = [float_of(i) if i in dynamic else i for i in operator.inputs]
            floats |= set(operator.outputs)
        elif kind in INTEGER_VERSIONS:
            inputs = [integer_of(i) for i in operator.inputs if i in dynamic]
            if kind in WEIGHTS:
                values, scales = quantised_weights(constant(model, operator.inputs[1]), WEIGHTS[kind])
                units = bias_scales(range_of(operator.inputs[0])["scale"], scales)
                bias = np.clip(np.rint(constant(model, operator.inputs[2]).astype("f8") / units), -2.0**31, 2.0**31 - 1)
                bias += layers[number]["correction"]
                inputs.append(tensor_like(model, operator.inputs[1], values, type=INT8,
                                          quantization=quantization(scales, 0, WEIGHTS[kind])))
                inputs.append(tensor_like(model, operator.inputs[2], bias.astype("<i4"), type=INT32,
                                          quantization=quantization(units, 0)))
            output = operator.outputs[0]
            operator.inputs, operator.outputs = inputs, [as_integer(output, tensors[output].name + b"_q")]
            operator.code = operator_code(model, kind, INTEGER_VERSIONS[kind])
        else:
            raise ValueError("operator %d has code %d, which this quantiser does not support" % (number, kind))
        operators.append(operator)
    graph.outputs = [float_of(index) for index in graph.outputs]
    graph.operators = operators
    compact(model)
    model.description = b"hand model, int8 (post-training)"


def heads(model):
    """The float FULLY_CONNECTED operators, by the name of the model's output that each ends in."""
    graph = model.subgraphs[0]
    after = {operator.inputs[0]: operator.outputs[0] for operator in graph.operators if code(model, operator) == LOGISTIC}
    found = [operator for operator in graph.operators if code(model, operator) == FULLY_CONNECTED]
    return {graph.tensors[after.get(o.outputs[0], o.outputs[0])].name.decode(): o for o in found}


def move_heads(model, offsets):
    """Subtracts from each head's bias the constant offset of its output from the f32 model."""
    for name, operator in heads(model).items():
        bias = constant(model, operator.inputs[2]).astype("f8") - offsets[name]
        operator.inputs[2] = tensor_like(model, operator.inputs[2], bias.astype("<f4"))
    compact(model)
