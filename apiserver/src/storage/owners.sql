-- Owners are found by their names, as references give them: an index of random ids costs every new object a page.
DROP INDEX objects_by_uid;
