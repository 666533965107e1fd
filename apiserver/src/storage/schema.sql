CREATE TABLE objects (
  resource  TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name      TEXT NOT NULL,
  uid       TEXT NOT NULL,
  revision  INTEGER NOT NULL,
  body      TEXT NOT NULL
);
CREATE UNIQUE INDEX objects_by_key ON objects (resource, namespace, name);
CREATE INDEX objects_by_uid ON objects (uid);
CREATE INDEX objects_by_namespace ON objects (namespace);
CREATE TABLE owners (
  owner     TEXT NOT NULL,
  resource  TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name      TEXT NOT NULL
);
CREATE INDEX owners_by_owner ON owners (owner);
CREATE INDEX owners_by_key ON owners (resource, namespace, name);
CREATE TABLE log (
  revision  INTEGER PRIMARY KEY,
  resource  TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name      TEXT NOT NULL,
  kind      TEXT NOT NULL,
  body      TEXT NOT NULL,
  previous  TEXT
);
CREATE INDEX log_by_resource ON log (resource, revision);
CREATE TABLE revision (current INTEGER NOT NULL);
INSERT INTO revision VALUES (1);
