"""Which files count as videos where a folder is named: all that libav opens but pictures and sounds."""

from __future__ import annotations

from pathlib import Path

__all__ = ["VIDEO_ENDINGS", "is_video_file", "is_video_name"]

_VIDEOS = """
.3g2 .3gp .amv .asf .av1 .avi .dif .divx .dv .dvr-ms .f4v .flv .gif .h264 .h265 .hevc .insv .ivf .lrv
.m1v .m2p .m2t .m2ts .m2v .m4v .mj2 .mjpeg .mjpg .mk3d .mkv .mod .mov .mp4 .mpe .mpeg .mpg .mpv .mts
.mxf .nut .obu .ogm .ogv .qt .rm .rmvb .tod .tp .trp .ts .vob .vro .webm .wmv .wtv .y4m
"""
_PICTURES = """
.arw .avif .bmp .cr2 .cr3 .dng .exr .heic .heif .ico .j2k .jp2 .jpeg .jpg .jxl .nef .pgm .png .ppm .psd
.raw .svg .tga .thm .tif .tiff .webp
"""
_SOUNDS = """
.aac .ac3 .aif .aiff .alac .amr .ape .au .dts .eac3 .flac .m4a .m4b .mid .mka .mp2 .mp3 .oga .ogg .opus
.ra .wav .weba .wma .wv
"""
_DATA = """
.ass .bin .cfg .csv .db .gz .h5 .htm .html .ini .json .jsonl .lock .log .m3u .m3u8 .md .mks .npy .npz
.parquet .part .pdf .pkl .pt .pth .py .rar .safetensors .sh .srt .ssa .sub .tar .tmp .toml .tsv .txt
.vtt .xml .yaml .yml .zip
"""

VIDEO_ENDINGS = frozenset(_VIDEOS.split())
"""In lower case. A file of an unknown ending is asked what it is, where that costs nothing."""

_OTHER_ENDINGS = frozenset((_PICTURES + _SOUNDS + _DATA).split())


def is_video_name(name: str) -> bool:
    """Whether a file of this name is taken to be a video unread."""
    return Path(name).suffix.lower() in VIDEO_ENDINGS


def is_video_file(path: Path) -> bool:
    """Whether a file counts as a video: by its name, or, where that says nothing, by what it holds."""
    ending = path.suffix.lower()
    return ending in VIDEO_ENDINGS or (ending not in _OTHER_ENDINGS and _holds_video(path))


def _holds_video(path: Path) -> bool:
    import av
    from av.stream import Disposition

    try:
        with av.open(str(path)) as container:
            stream, kind = container.streams.best("video"), container.format.name
            is_video = stream is not None and not stream.disposition & Disposition.attached_pic
            return is_video and not kind.endswith("_pipe") and kind not in ("image2", "tty")
    except (av.FFmpegError, ValueError, OSError):
        return False
