"""Interlaced pictures: two fields, taken a moment apart, in one frame. bwdif makes one picture of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from svgan_ray.errors import VideoError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import Graph
    from av.filter.context import FilterContext

__all__ = ["Deinterlacer", "buffer_for"]


class Deinterlacer:
    """libavfilter's bwdif (the weights of BBC's W3FDIF, the edges of yadif), a frame for a frame.

    What comes out depends on a frame and its two neighbours alone, wherever reading began.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._shape: tuple[object, ...] = ()
        self._pushed: list[VideoFrame] = []

    def __call__(self, before: VideoFrame, picture: VideoFrame, after: VideoFrame) -> VideoFrame:
        """The picture whole; at the ends of a video its missing neighbour is the picture itself.

        Raises VideoError (`interlaced`) where libavfilter cannot do it.
        """
        import av

        before, after = (one if _shape(one) == _shape(picture) else picture for one in (before, after))
        try:
            if self._graph is None or self._shape != _shape(picture):
                self._graph, self._shape, self._pushed = _graph(picture), _shape(picture), []
            is_next = len(self._pushed) == 2 and self._pushed[0] is before and self._pushed[1] is picture
            for one in (after,) if is_next else (before, picture, after):
                whole = _push(self._graph, one)
        except (av.FFmpegError, ValueError) as error:
            message = (
                f"interlaced pictures cannot be made whole: {error}; re-encode them with ffmpeg -vf bwdif"
            )
            raise VideoError(message, "interlaced") from error
        self._pushed = [picture, after]
        assert whole is not None
        return whole


def _shape(picture: VideoFrame) -> tuple[object, ...]:
    return picture.width, picture.height, picture.format.name, picture.colorspace, picture.color_range


def _graph(picture: VideoFrame) -> Graph:
    from av.filter import Graph

    graph = Graph()
    graph.threads = 1
    bwdif = graph.add("bwdif", "mode=send_frame:deint=all")
    graph.link_nodes(buffer_for(graph, picture), bwdif, graph.add("buffersink")).configure()
    return graph


def buffer_for(graph: Graph, picture: VideoFrame) -> FilterContext:
    """The place where pictures like this one enter a graph."""
    return graph.add(
        "buffer",
        f"video_size={picture.width}x{picture.height}:pix_fmt={picture.format.name}:time_base=1/25:"
        f"pixel_aspect=1/1:colorspace={picture.colorspace}:range={picture.color_range}",
    )


def _push(graph: Graph, picture: VideoFrame) -> VideoFrame | None:
    """The latest picture that comes out of the graph after another one went in."""
    import av

    graph.vpush(picture)
    latest = None
    while True:
        try:
            latest = graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return latest
