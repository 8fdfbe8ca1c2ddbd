#!/usr/bin/env python3
"""many_clips.py SOURCE TARGET CLIPS: makes a dataset of CLIPS clips that are hard links to those of SOURCE."""
import json
import os
import sys

source, target, clips = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.makedirs(target + "/videos")
files = sorted(os.listdir(source + "/videos"))
instances = []
for n in range(clips):
    name = "%05d" % n
    os.link(os.path.join(source, "videos", files[n % len(files)]), "%s/videos/%s.mp4" % (target, name))
    instances.append({"video_id": name, "frame_start": 1, "frame_end": -1, "split": "train", "signer_id": 1})
json.dump([{"gloss": "many", "instances": instances}], open(target + "/WLASL_v0.3.json", "w"))
