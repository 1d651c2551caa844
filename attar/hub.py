"""Publishing a bundle on the hub."""

from pathlib import Path

from attar.errors import BundleError, ModelError
from attar.records import read_manifest


def push_bundle(bundle: str, repo: str) -> str:
    """Upload a bundle, its model card included, and return the address of its page. A new repository is private.

    Args:
        bundle: the folder.
        repo: ``NAME`` or ``OWNER/NAME`` on the hub.

    Raises:
        BundleError: where the folder holds no bundle.
        ModelError: without a network or a token, and where the hub refuses.
    """
    if not read_manifest(bundle) or not (Path(bundle) / "README.md").exists():
        raise BundleError(f"{bundle} holds no bundle with a model card; give what attar finetune or distill left")

    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    try:
        api.whoami()
        target = api.create_repo(repo, private=True, exist_ok=True)
        # What predictions hold of the test texts stays here: they are the user's data.
        api.upload_folder(repo_id=target.repo_id, folder_path=bundle, ignore_patterns=["predictions.parquet", "*.html"])
    except LocalTokenNotFoundError as error:
        raise ModelError("no token for the hub was found; log in with: hf auth login, or set HF_TOKEN") from error
    except OfflineModeIsEnabled as error:
        raise ModelError("HF_HUB_OFFLINE is set; unset it to reach the hub") from error
    except HfHubHTTPError as error:
        raise ModelError(f"the hub refused {repo}: {_one_line(error)}") from error
    except ValueError as error:  # a name that the hub does not allow
        raise ModelError(f"{repo!r} cannot be a repository: {_one_line(error)}") from error
    except Exception as error:
        if not _is_network(error):
            raise
        raise ModelError(f"the hub cannot be reached ({_one_line(error)}); check the network and try again") from error
    return str(target)


def _is_network(error: BaseException) -> bool:
    """Return whether an error comes from the connection; which library makes that depends on the hub's version."""
    return isinstance(error, OSError) or type(error).__module__.startswith(("http", "requests"))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
