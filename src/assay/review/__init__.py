"""The review page: an expert looks at the ranked samples and decides; `assay review audit/` opens it.

The server's own process holds Starlette, numpy, pyarrow and sqlite3, and never torch: it reads score shards through a
`queue` and decisions through their log. What needs the head or the data is done by the `worker` processes. What is
served is in `web/`, which needs `pip install "assay[review]"`.
"""
