"""Members that many actions take or give: tags, filters, pages."""

from collections.abc import Mapping, Sequence

from ebsim.api.faults import ApiError
from ebsim.api.params import Params
from ebsim.catalog.snapshot_filter import Filter
from ebsim.engine.tags import TAG_COUNT_MAX

PAGE_MIN = 5
PAGE_MAX = 1000


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """*tags* as EC2 lists them."""
    return [{"Key": key, "Value": tags[key]} for key in sorted(tags)]


def tags_in(listed: Sequence[Params]) -> dict[str, str]:
    """The tags that EC2's list gives; a tag without a value has an empty one.

    Raises:
        ApiError: a key is missing or there twice, or there are too many.
    """
    tags: dict[str, str] = {}
    for one in listed:
        key = one.get("Key")
        if key is None:
            raise ApiError("MissingParameter", "The request must contain the parameter tag key")
        if key in tags:
            raise ApiError("InvalidParameterValue", f"Duplicate tag key '{key}' specified.")
        tags[key] = one.get("Value", "")
    if len(tags) > TAG_COUNT_MAX:
        raise ApiError(
            "TagLimitExceeded",
            f"More than {TAG_COUNT_MAX} tags may not be specified for a resource.",
        )
    return tags


def specified_tags(params: Params, resource_type: str) -> dict[str, str]:
    """The tags that ``TagSpecifications`` gives a new resource of *resource_type*.

    Raises:
        ApiError: it gives them to something else, or they make no sense.
    """
    tags: list[Params] = []
    for one in params.get("TagSpecifications", ()):
        named = one.get("ResourceType")
        if named != resource_type:
            raise ApiError(
                "InvalidParameterValue",
                f"'{named}' is not a valid taggable resource type for this operation.",
            )
        tags += one.get("Tags", [])
    return tags_in(tags)


def filters_in(params: Params) -> list[Filter]:
    """The filters of a Describe action.

    Raises:
        ApiError: one has no name or no values.
    """
    filters = []
    for one in params.get("Filters", ()):
        name = one.get("Name")
        if not name:
            raise ApiError(
                "InvalidParameterValue", "The filter 'null' is invalid: it must have a name."
            )
        if not one.get("Values"):
            raise ApiError("InvalidParameterValue", f"The filter '{name}' must have values.")
        filters.append(Filter(name, one["Values"]))
    return filters


def page_size(params: Params, *, minimum: int = PAGE_MIN, maximum: int = PAGE_MAX) -> int | None:
    """``MaxResults``, if it is given.

    Raises:
        ApiError: it is less or more than EC2 gives.
    """
    count: int | None = params.get("MaxResults")
    if count is not None and not minimum <= count <= maximum:
        bound = f"greater than {minimum}" if count < minimum else f"less than {maximum}"
        raise ApiError(
            "InvalidParameterValue",
            f"Value ( {count} ) for parameter maxResults is invalid. Expecting a value {bound}.",
        )
    return count


def refuse_ids_with_page(params: Params, ids: str) -> None:
    """Refuse a page of things that are named one by one.

    Raises:
        ApiError: both are given.
    """
    if params.get(ids) and params.get("MaxResults") is not None:
        raise ApiError(
            "InvalidParameterCombination",
            f"The parameter {ids[:1].lower()}{ids[1:]} cannot be used with the parameter "
            "maxResults",
        )
