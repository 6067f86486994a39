"""The page about a finished search: one file that opens from disk, with no network."""





