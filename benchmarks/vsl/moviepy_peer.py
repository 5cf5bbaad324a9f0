"""The same video by moviepy, as its documentation shows it: runs in the peers' Python, knows nothing of the product."""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

FPS, PAUSE_S, TAIL_S, FADE_S = 25, 0.3, 0.6, 0.4


def main(folder: str, count: int, *, motion: bool) -> dict[str, float]:
    """Stills that grow by 1.5 % a second, crossfades, the voices one after another; the encoder as ours."""
    from moviepy import AudioFileClip, CompositeAudioClip, CompositeVideoClip, ImageClip, vfx  # noqa: PLC0415

    begin = time.perf_counter()
    clips, sounds, at = [], [], 0.0
    for index in range(count):
        sound = AudioFileClip(f"{folder}/{index}.wav")
        lasts = sound.duration + (TAIL_S if index == count - 1 else PAUSE_S)
        clip = (
            ImageClip(f"{folder}/{index}.png").resized((1280, 720)).with_duration(lasts + FADE_S * (index < count - 1))
        )
        effects = []
        if motion:
            effects.append(vfx.Resize(lambda t: 1 + 0.015 * t))
        if index:
            effects.append(vfx.CrossFadeIn(FADE_S))
        clips.append(clip.with_effects(effects).with_start(at).with_position("center"))
        sounds.append(sound.with_start(at))
        at += lasts
    video = CompositeVideoClip(clips, size=(1280, 720)).with_duration(at).with_audio(CompositeAudioClip(sounds))
    settings = ["-crf", "21", "-profile:v", "high", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    video.write_videofile(
        f"{folder}/moviepy.mp4", fps=FPS, codec="libx264", audio_codec="aac", preset="veryfast", threads=1,
        ffmpeg_params=settings, logger=None, temp_audiofile_path=folder,
    )  # fmt: skip
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "lasts_s": at,
        "wall_s": time.perf_counter() - begin,
        "cpu_s": sum(usage.ru_utime + usage.ru_stime for usage in usages),
        "ffmpeg_mib": usages[1].ru_maxrss / 1024,
        "python_mib": int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), motion=sys.argv[3] == "motion")))
