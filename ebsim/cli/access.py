"""``ebsim account``, ``ebsim key`` and ``ebsim env``: who may act, and by which key."""

import shlex
from random import SystemRandom

import click

from ebsim.cli.output import Column, print_json, print_table
from ebsim.cli.settings import Settings
from ebsim.clock import SystemClock, to_iso8601
from ebsim.durable_files import Files
from ebsim.engine.access_keys import AccessKey, AccessKeys
from ebsim.engine.home import prepare_home
from ebsim.engine.served_home import served_at
from ebsim.ids import AccountId

DEFAULT_URL = "http://127.0.0.1:4580"


@click.group()
def account() -> None:
    """Make and list accounts."""


@account.command("create")
@click.argument("account_id", metavar="[ID]", required=False)
@click.option("--name", default="", metavar="TEXT", help="What to call it.")
@click.pass_obj
def create_account(settings: Settings, *, account_id: str | None, name: str) -> None:
    """Make an account and print its number: ID, or one chosen by chance.

    \b
    Example:
        ebsim account create --name backup
    """
    chosen = AccountId(account_id) if account_id is not None else None
    made = _keys(settings).create_account(chosen, name)
    if settings.wants_json:
        print_json({"AccountId": made.account_id, "Name": made.name})
    else:
        click.echo(made.account_id)


@account.command("ls")
@click.pass_obj
def list_accounts(settings: Settings) -> None:
    """List the accounts that were made, or that have keys.

    \b
    Example:
        ebsim account ls
    """
    accounts = _keys(settings).accounts()
    if settings.wants_json:
        print_json(
            {
                "Accounts": [
                    {
                        "AccountId": one.account_id,
                        "Name": one.name,
                        "CreateDate": to_iso8601(one.create_time_ns),
                    }
                    for one in accounts
                ]
            }
        )
        return
    columns = (Column("account"), Column("created"), Column("name"))
    rows = [[one.account_id, to_iso8601(one.create_time_ns), one.name] for one in accounts]
    print_table(columns, rows)


@click.group()
def key() -> None:
    """Make, list and remove the keys that AWS clients sign with."""


@key.command("create")
@click.pass_obj
def create_key(settings: Settings) -> None:
    """Make a key for the account that --account names, and print it with its secret.

    \b
    Examples:
        ebsim key create
        ebsim --account 111122223333 key create
    """
    made = _keys(settings).create_key(settings.account_id)
    if settings.wants_json:
        print_json({"AccessKey": {**_document(made), "SecretAccessKey": made.secret}})
    else:
        click.echo(f"{made.key_id} {made.secret}")


@key.command("ls")
@click.pass_obj
def list_keys(settings: Settings) -> None:
    """List the keys of all accounts, without their secrets.

    \b
    Example:
        ebsim key ls
    """
    keys = _keys(settings).keys()
    if settings.wants_json:
        print_json({"AccessKeyMetadata": [_document(one) for one in keys]})
        return
    columns = (Column("key"), Column("account"), Column("created"))
    print_table(
        columns, [[one.key_id, one.account_id, to_iso8601(one.create_time_ns)] for one in keys]
    )


@key.command("rm")
@click.argument("key_id", metavar="KEY")
@click.pass_obj
def remove_key(settings: Settings, *, key_id: str) -> None:
    """Remove a key: nobody acts by it any more.

    \b
    Example:
        ebsim key rm AKIAEXAMPLE234567ABC
    """
    _keys(settings).delete_key(key_id)


@click.command()
@click.option(
    "--endpoint",
    metavar="URL",
    help=f"Where the server is.  [default: where it is now, or {DEFAULT_URL}]",
)
@click.pass_obj
def env(settings: Settings, *, endpoint: str | None) -> None:
    """Print what AWS clients need, as shell commands.

    The account's key is made on first use.

    \b
    Example:
        eval "$(ebsim env)"
    """
    keys = _keys(settings)
    mine = keys.keys(settings.account_id)
    chosen = mine[0] if mine else keys.create_key(settings.account_id)
    url = endpoint or served_at(Files(), settings.home) or DEFAULT_URL
    variables = {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": settings.region_name,
        "AWS_DEFAULT_REGION": settings.region_name,
        "AWS_ACCESS_KEY_ID": chosen.key_id,
        "AWS_SECRET_ACCESS_KEY": chosen.secret,
    }
    if settings.wants_json:
        print_json(variables)
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    # A profile or a session of the shell's would be taken instead of the key.
    click.echo("unset AWS_PROFILE AWS_SESSION_TOKEN")


def _keys(settings: Settings) -> AccessKeys:
    files = Files()
    prepare_home(settings.home, files, create=True)
    return AccessKeys(settings.home, files, SystemClock(), SystemRandom())


def _document(one: AccessKey) -> dict[str, str]:
    return {
        "AccessKeyId": one.key_id,
        "AccountId": one.account_id,
        "CreateDate": to_iso8601(one.create_time_ns),
    }
