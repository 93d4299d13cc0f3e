"""``instance create``, ``ls``, ``show`` and ``rm``."""

from collections.abc import Sequence

import click

from ebsim.cli.amazon_shapes import Document
from ebsim.cli.opened_region import opened_region
from ebsim.cli.output import print_fields, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.cli.volume_shapes import INSTANCE_COLUMNS, instance_document, instance_row
from ebsim.engine.instances import (
    InstanceVolumes,
    create_instance,
    delete_instance,
    list_instances,
    show_instance,
)


@click.command()
@click.argument("name")
@click.pass_obj
def create(settings: Settings, *, name: str) -> None:
    """Make an instance that has no volumes yet.

    An instance runs nothing: it says which volumes belong together.

    \b
    Example:
        ebsim instance create web
    """
    with opened_region(settings, create=True) as region:
        made = create_instance(region, name)
    if settings.wants_json:
        print_json(_reservations([InstanceVolumes(made, ())]))
    else:
        click.echo(made.instance_id)


@click.command()
@click.pass_obj
def ls(settings: Settings) -> None:
    """List instances and their volumes, boot volumes first.

    \b
    Example:
        ebsim instance ls
    """
    with opened_region(settings) as region:
        found = list_instances(region)
    if settings.wants_json:
        print_json(_reservations(found))
    else:
        print_table(INSTANCE_COLUMNS, [instance_row(one) for one in found])


@click.command()
@click.argument("name", metavar="INSTANCE")
@click.pass_obj
def show(settings: Settings, *, name: str) -> None:
    """Show the instance and its volumes.

    INSTANCE is a name, an id, or the beginning of an id.

    \b
    Example:
        ebsim instance show web
    """
    with opened_region(settings) as region:
        found = show_instance(region, name)
    if settings.wants_json:
        print_json(_reservations([found]))
        return
    headers = (column.header for column in INSTANCE_COLUMNS)
    print_fields(dict(zip(headers, instance_row(found), strict=True)))


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="INSTANCE...")
@click.pass_obj
def rm(settings: Settings, *, names: tuple[str, ...]) -> None:
    """Remove instances, whose volumes must have been detached.

    \b
    Example:
        ebsim instance rm web
    """
    removed: list[str] = []
    try:
        with opened_region(settings) as region:
            found = [show_instance(region, name).instance.instance_id for name in names]
            for instance_id in dict.fromkeys(found):
                removed.append(delete_instance(region, instance_id))
                if not settings.wants_json:
                    click.echo(instance_id)
    finally:
        if settings.wants_json and removed:
            print_json({"Instances": [{"InstanceId": instance_id} for instance_id in removed]})


def _reservations(found: Sequence[InstanceVolumes]) -> Document:
    """As ``describe-instances`` has them: each was made by a request of its own."""
    return {"Reservations": [{"Instances": [instance_document(one)]} for one in found]}
