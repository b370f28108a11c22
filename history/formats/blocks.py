"""The blocks of a ChatMessage of LlamaIndex, as it reads them, and the parts of the content of a LangChain message.

Source: llama_index/core/base/llms/types.py of llama-index-core 0.14.25, and the content blocks of langchain-core 1.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AnyUrl, BaseModel, ConfigDict, Field

_DATA_URL = re.compile(r"data:(?P<kind>[\w.+/-]+);base64,(?P<data>.*)", re.DOTALL)


def _checked_url(url: str) -> str:
    AnyUrl(url)
    return url


class _Block(BaseModel):
    model_config = ConfigDict(strict=True)


_Url = Annotated[str, AfterValidator(_checked_url)] | None


class Text(_Block):
    """A text."""

    block_type: Literal["text"] = "text"
    text: str


class Image(_Block):
    """A picture, in base64."""

    block_type: Literal["image"] = "image"
    image: str | None = None
    path: str | None = None
    url: _Url = None
    image_mimetype: str | None = None
    detail: str | None = None


class Audio(_Block):
    """A sound, in base64."""

    block_type: Literal["audio"] = "audio"
    audio: str | None = None
    path: str | None = None
    url: _Url = None
    format: str | None = None


class Video(_Block):
    """A film, in base64."""

    block_type: Literal["video"] = "video"
    video: str | None = None
    path: str | None = None
    url: _Url = None
    video_mimetype: str | None = None
    detail: str | None = None
    fps: int | None = None


class Document(_Block):
    """A document, in base64."""

    block_type: Literal["document"] = "document"
    data: str | None = None
    path: str | None = None
    url: str | None = None
    title: str | None = None
    document_mimetype: str | None = None


class _CacheControl(_Block):
    type: str
    ttl: str = "5m"


class _Cache(_Block):
    block_type: Literal["cache"] = "cache"
    cache_control: _CacheControl


class _Citable(_Block):
    block_type: Literal["citable"] = "citable"
    title: str
    source: str
    content: list[Annotated[Text | Image | Document, Field(discriminator="block_type")]]


class _Citation(_Block):
    block_type: Literal["citation"] = "citation"
    cited_content: Annotated[Text | Image, Field(discriminator="block_type")]
    source: str
    title: str
    additional_location_info: dict[str, int]


class Thinking(_Block):
    """What a model has thought."""

    block_type: Literal["thinking"] = "thinking"
    content: str | None = None
    num_tokens: int | None = None
    additional_information: dict[str, Any] = {}


class ToolCall(_Block):
    """A call of a tool; arguments that are no JSON object are text."""

    block_type: Literal["tool_call"] = "tool_call"
    tool_call_id: str | None = None
    tool_name: str
    tool_kwargs: dict[str, Any] | str = {}


Block = Annotated[
    Text | Image | Audio | Video | Document | _Cache | _Citable | _Citation | Thinking | ToolCall,
    Field(discriminator="block_type"),
]


# The blocks that stay as they are in a part, beside those that have neither data nor URL.
_KEPT: dict[str, type[_Block]] = {"cache": _Cache, "citable": _Citable, "citation": _Citation}


def part_of(block: BaseModel) -> dict[str, Any]:
    """The part of a content that says the same; one that LangChain has no name for stays a block in a part."""
    match block:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Thinking(content=text, additional_information=more):
            return {"type": "reasoning", "reasoning": text or "", **({"extras": more} if more else {})}
        case Image(url=str(url), image=None, path=None, detail=detail):
            return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail else {})}}
        case Image(image=data, url=url, image_mimetype=kind):
            part = _media("image", data, url, kind)
        case Audio(audio=data, url=url, format=form):
            part = _media("audio", data, url, form and f"audio/{form}")
        case Video(video=data, url=url, video_mimetype=kind):
            part = _media("video", data, url, kind)
        case Document(data=data, url=url, document_mimetype=kind, title=title):
            part = _media("file", data, url, kind)
            if part and title:
                part["extras"] = {"filename": title}
        case _:
            part = None
    return part or {"type": "non_standard", "value": block.model_dump()}


def _media(kind: str, data: str | None, url: str | None, mime_type: str | None) -> dict[str, Any] | None:
    source = {"base64": data} if data else {"url": url}
    if not (data or url):
        return None
    return {"type": kind, **source, **({"mime_type": mime_type} if mime_type else {})}


def block_of(part: Any) -> BaseModel | None:
    """The block that says the same as a part of a content; None if LlamaIndex has none."""
    match part:
        case str(text) | {"type": "text", "text": str(text)}:
            return Text(text=text)
        case {"type": "reasoning" | "thinking"}:
            return _thinking(part)
        case {"type": "image_url", "image_url": named}:
            return _image(**named) if isinstance(named, dict) else _image(named)
        case {"type": "non_standard", "value": {"block_type": str(kind)} as value} if kind in _KEPT:
            return _KEPT[kind].model_validate(value)
        case {"type": "image" | "audio" | "video" | "file"}:
            return _media_block(part)
        case _:
            return None


def _thinking(part: dict[str, Any]) -> Thinking | None:
    match part:
        case {"reasoning": str(text)}:
            return Thinking(content=text, additional_information=part.get("extras") or {})
        case {"thinking": str(text)}:  # Anthropic's
            signed = {"signature": part["signature"]} if part.get("signature") else {}
            return Thinking(content=text, additional_information=signed)
        case _:
            return None


def _image(url: str, detail: str | None = None) -> Image:
    if found := _DATA_URL.fullmatch(url):
        return Image(image=found["data"], image_mimetype=found["kind"], detail=detail)
    return Image(url=url, detail=detail)


def _media_block(part: dict[str, Any]) -> BaseModel | None:
    """The block of a part in either of LangChain's forms; None if it names a file of a provider."""
    kind = part.get("mime_type")
    data = part.get("base64") or (part.get("data") if part.get("source_type") == "base64" else None)
    url = None if data else part.get("url")
    if not (data or url):
        return None
    match part["type"]:
        case "image":
            return Image(image=data, url=url, image_mimetype=kind)
        case "audio":
            return Audio(audio=data, url=url, format=kind and kind.removeprefix("audio/"))
        case "video":
            return Video(video=data, url=url, video_mimetype=kind)
    more = {**(part.get("metadata") or {}), **(part.get("extras") or {}), **part}
    return Document(data=data, url=url, title=more.get("filename"), document_mimetype=kind)
