"""Product exports of shop systems and marketplaces: recognised by header, made into product rows.

A system is a TOML file in this folder: the columns by which it is recognised, the columns of the
roles, and rules of the kinds that ``feed.Feed`` lists. A stranger adds one in ten lines.

``feed``      the rules of a system as data, and which system a header is of
``rules``     the rules of a system, bound to the columns of one table
``spool``     rows into groups of variants, in any order, in flat memory
``variants``  a group of rows to the rows of its products
``reading``   ``read_feed``: a table and a system to a table of products
"""
