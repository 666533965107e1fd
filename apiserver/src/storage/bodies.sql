-- Each state of an object is stored once, under its revision: an object names its present one, the log what a change made and what
-- that replaced.
CREATE TABLE bodies (
  revision  INTEGER PRIMARY KEY,
  body      TEXT NOT NULL
);
INSERT INTO bodies SELECT revision, body FROM objects;
INSERT OR IGNORE INTO bodies SELECT revision, body FROM log;
INSERT OR IGNORE INTO bodies SELECT was, before FROM log WHERE before IS NOT NULL;
ALTER TABLE objects RENAME TO whole_objects;
CREATE TABLE objects (
  resource  TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name      TEXT NOT NULL,
  uid       TEXT NOT NULL,
  revision  INTEGER NOT NULL,
  PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
INSERT INTO objects SELECT resource, namespace, name, uid, revision FROM whole_objects;
DROP TABLE whole_objects;
CREATE INDEX objects_by_uid ON objects (uid);
ALTER TABLE log RENAME TO whole_log;
CREATE TABLE log (
  revision  INTEGER PRIMARY KEY,
  resource  TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name      TEXT NOT NULL,
  kind      TEXT NOT NULL,
  was       INTEGER
);
INSERT INTO log SELECT revision, resource, namespace, name, kind, was FROM whole_log;
DROP TABLE whole_log;
CREATE INDEX log_by_resource ON log (resource, revision);
