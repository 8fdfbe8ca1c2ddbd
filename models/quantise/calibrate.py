#!/usr/bin/env python3
"""Measures the numbers that build.py needs on clips of hands and writes them to hand.json, which holds no images.

usage: models/quantise/run.sh models/quantise/calibrate.py CLIPS [--only LIST] [--frames N] [--shared DIR] [--out FILE]

CLIPS is a folder of videos. Do not evaluate the models on clips used here: calibration_clips.txt lists those of
hand.json. The last digits depend on the processor's float kernels, so hand.json is the reference and not a new run.
Needs Python 3.11 with the packages of requirements-measure.txt, ../shared/reference and `make setup`.
"""
import argparse
import hashlib
import json
import pathlib
import sys
import warnings

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import clips
from build import HERE, build
from flatbuffer import pack, read
from graph import CONV_2D, FULLY_CONNECTED, LOGISTIC, activations, code, constant, fold
from quantiser import HEADS, INTEGER_VERSIONS, WEIGHTS, bias_scales, equalise, heads, quantise, quantised_weights
from runtime import Model

SOURCE = "hand_landmark_full.tflite"
FILES = {"hand_int8_cpu.tflite": {"float_operators": 2, "integer_input": False},
         "hand_int8_npu.tflite": {"float_operators": 0, "integer_input": True},
         "hand_landmark_pruned.tflite": {}}
BINS = 4096


def hand_crops(videos, hand_ref, models, per_clip, kept=260):
    """Random `kept` of the hand crops that the f32 pipeline makes from frames spread over each clip."""
    pipeline = hand_ref.HandRef(str(models / "palm_detection_full.tflite"), str(models / SOURCE))
    crops, seen = [], 0
    for path, count in videos:
        for frame in clips.frames(path, {int(x) for x in np.linspace(1, count - 2, per_clip)}):
            pipeline.detect(frame)
            seen += 1
            crops += [np.rint(image[0] * 255).astype(np.uint8) for _, image, _ in pipeline.dbg.get("hand", [])]
    rng = np.random.default_rng(0)
    # This draw belongs to the palm model, which stays float. It is kept so that the next draw does not change.
    rng.permutation(seen)
    return [crops[i] for i in np.sort(rng.permutation(len(crops))[:kept])]


def spread(images, count):
    return [images[i] for i in np.linspace(0, len(images) - 1, count).astype(int)]


def runs(model, images):
    """All activations of the model for each image, by tensor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        interpreter = Interpreter(model_content=pack(model), num_threads=1, experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    source, tensors = interpreter.get_input_details()[0]["index"], sorted(activations(model.subgraphs[0]))
    for image in images:
        interpreter.set_tensor(source, clips.tensor(image))
        interpreter.invoke()
        yield {index: interpreter.get_tensor(index) for index in tensors}


def channel_maxima(model, images):
    """By tensor, the largest magnitude of each channel."""
    largest = {}
    for values in runs(model, images):
        for index, value in values.items():
            found = np.abs(value.reshape(-1, value.shape[-1])).max(0)
            largest[index] = np.maximum(largest.get(index, found), found)
    return largest


def statistics(model, images):
    """By tensor: minimum, maximum, mean of each channel, and a histogram of every fourth image's values."""
    found = {}
    for values in runs(model, images):
        for index, value in values.items():
            low, high = float(value.min()), float(value.max())
            entry = found.setdefault(index, {"low": low, "high": high, "mean": 0.0, "counts": np.zeros(BINS, np.int64)})
            entry["low"], entry["high"] = min(entry["low"], low), max(entry["high"], high)
            entry["mean"] = entry["mean"] + value.reshape(-1, value.shape[-1]).mean(0, dtype=np.float64) / len(images)
    for values in runs(model, images[::4]):
        for index, value in values.items():
            entry = found[index]
            if entry["high"] > entry["low"]:
                bins = (value.ravel() - entry["low"]) * ((BINS - 1) / (entry["high"] - entry["low"]))
                entry["counts"] += np.bincount(np.clip(bins.astype(np.int64), 0, BINS - 1), minlength=BINS)
    return found


def clipped_range(entry):
    """The shrunken range with the smallest square error of rounding and clipping."""
    low, high, counts = entry["low"], entry["high"], entry["counts"].astype(np.float64)
    if high <= low:
        return low, high
    values, best = low + (np.arange(BINS) + 0.5) * (high - low) / BINS, None
    for shrink_low in [1.0] if low >= 0 else [1, .9, .8, .7, .6, .5, .4]:
        for shrink_high in [1, .95, .9, .85, .8, .75, .7, .65, .6, .55, .5, .45, .4, .35, .3]:
            start, step = low * shrink_low, (high * shrink_high - low * shrink_low) / 255
            if step > 0:
                rounded = np.clip(np.rint((values - start) / step), 0, 255) * step + start
                error = (counts * (rounded - values) ** 2).sum()
                if best is None or error < best[0]:
                    best = error, start, high * shrink_high
    return best[1:]


def scale_and_zero_point(entry):
    low, high = clipped_range(entry)
    low, high = min(low, 0.0), max(high, 0.0)
    step = max((high - low) / 255, 1e-9)
    return {"scale": np.float32(step), "zero_point": int(np.clip(np.rint(-128 - low / step), -128, 127))}


def correction(model, operator, mean, input_scale):
    """How much the rounding of the weights lowers the mean of each output channel, in units of the bias."""
    kind = code(model, operator)
    weights, bias = (constant(model, i) for i in operator.inputs[1:3])
    values, scales = quantised_weights(weights, WEIGHTS[kind])
    shape = [1] * weights.ndim
    shape[WEIGHTS[kind]] = -1
    lost = weights.astype("f8") - values.astype("f8") * scales.astype("f8").reshape(shape)
    lost = (lost.sum((1, 2)) * mean).sum(1) if kind == CONV_2D else lost.sum((0, 1, 2)) * mean
    units, bias = bias_scales(input_scale, scales), bias.astype("f8")
    whole = [np.clip(np.rint(value / units), -2.0**31, 2.0**31 - 1) for value in (bias + lost, bias)]
    return (whole[0] - whole[1]).astype(np.int64).tolist()


def layer_numbers(model, images):
    """The numbers for each operator of the equalised model, and the scale and zero point of its input."""
    graph, found = model.subgraphs[0], statistics(model, images)
    ranges = {index: scale_and_zero_point(entry) for index, entry in found.items()}
    layers = []
    for operator in graph.operators:
        layer = {}
        if code(model, operator) in INTEGER_VERSIONS:
            layer.update(ranges[operator.outputs[0]])
        if code(model, operator) in WEIGHTS.keys() - HEADS:
            source = operator.inputs[0]
            layer["correction"] = correction(model, operator, found[source]["mean"], ranges[source]["scale"])
        layers.append(layer)
    return layers, ranges[graph.inputs[0]]


def head_offsets(exact, quantised, images):
    """The mean offset of each head's output from the f32 model, on images that show a hand; f64 by name."""
    runner, reference = Model(pack(quantised)), Model(pack(exact))
    pairs = [(reference(clips.tensor(image)), runner(clips.tensor(image))) for image in images]
    hand = np.array([values["Identity_1"].ravel()[0] for values, _ in pairs]) > 0.5
    logit = lambda p: np.log(np.clip(p, 1e-6, 1 - 1e-6) / np.clip(1 - p, 1e-6, 1))
    offsets, sigmoids = {}, [o.outputs[0] for o in quantised.subgraphs[0].operators if code(quantised, o) == LOGISTIC]
    probabilities = {quantised.subgraphs[0].tensors[index].name.decode() for index in sigmoids}
    for name, operator in heads(quantised).items():
        a, b = (np.stack([values[name].ravel() for values in side]) for side in zip(*pairs))
        if name in probabilities:
            a, b = logit(a.astype("f8")), logit(b.astype("f8"))
            # Beyond that a probability has too few digits for its logit.
            kept = np.abs(a[:, 0]) < 8
            offset = (b - a)[kept].mean(0) if kept.sum() > 20 else np.zeros(1)
        else:
            offset = (b - a)[hand].mean(0)
        # The difference of two f32, so that move_heads applies exactly the number in the file.
        bias = constant(quantised, operator.inputs[2])
        offsets[name] = (bias.astype("f8") - (bias - offset).astype("f4").astype("f8")).tolist()
    return offsets


def text(data, indent=""):
    """JSON with each list of numbers on one line and each f32 as its shortest decimal."""
    if isinstance(data, dict):
        return "{\n" + ",\n".join('%s "%s": %s' % (indent, k, text(v, indent + " ")) for k, v in data.items()) + "\n" + indent + "}"
    if isinstance(data, list) and data and isinstance(data[0], dict):
        return "[\n" + ",\n".join(indent + " " + text(entry, indent + " ") for entry in data) + "\n" + indent + "]"
    if isinstance(data, (list, np.ndarray)):
        return "[" + ", ".join(text(value) for value in data) + "]"
    return str(data) if isinstance(data, np.float32) else json.dumps(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=pathlib.Path, help="folder of videos")
    parser.add_argument("--only", type=pathlib.Path, metavar="LIST", help="file with the ids of the clips to use (default: all)")
    parser.add_argument("--frames", type=int, default=24, help="frames of each clip (default: 24)")
    parser.add_argument("--models", type=pathlib.Path, default=HERE.parent / "fetched", help="folder of the f16 models")
    parser.add_argument("--shared", type=pathlib.Path, default=clips.SHARED, help="folder with reference/hand_ref.py")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "hand.json")
    args = parser.parse_args()
    source = args.models / SOURCE
    listed = clips.ids(args.only) if args.only else None
    videos = clips.videos(args.clips, lambda path: listed is None or clips.is_listed(path, listed))
    crops = hand_crops(videos, clips.reference(args.shared), args.models, args.frames)
    if not crops:
        sys.exit("calibrate: no clip with hands in %s" % args.clips)

    def folded():
        model = read(source)
        fold(model)
        return model

    maxima = channel_maxima(folded(), crops)
    # Heads have no factors: no operator after them could divide by them.
    measured = {number: maxima[operator.outputs[0]] for number, operator in enumerate(folded().subgraphs[0].operators)
                if code(folded(), operator) not in (FULLY_CONNECTED, LOGISTIC)}

    def equalised():
        model = folded()
        equalise(model, measured)
        return model

    layers, input_numbers = layer_numbers(equalised(), spread(crops, 130))
    layers = [{"operator": number, **({"maxima": measured[number]} if number in measured else {}), **layer}
              for number, layer in enumerate(layers)]
    data = {"source": SOURCE, "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(), "files": {},
            "picture": input_numbers, "layers": layers}
    for name, recipe in FILES.items():
        data["files"][name] = dict(recipe)
        if recipe:
            model = equalised()
            quantise(model, layers, input_numbers, **recipe)
            data["files"][name]["heads"] = head_offsets(folded(), model, spread(crops, 200))
    data = json.loads(text(data))
    for recipe in data["files"].values():
        recipe.update(build(source, data, recipe)[1])
    args.out.write_text(text(data) + "\n", encoding="utf-8")
    print("quantise: %s holds the numbers of %d images of hands" % (args.out, len(crops)))


if __name__ == "__main__":
    main()
