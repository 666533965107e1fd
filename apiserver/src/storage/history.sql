-- Consistent reads of the past: the log keeps what each change replaced. What was logged before does not, so history
-- begins here; watches from before it are told to list again, once.
DROP TABLE log;
CREATE TABLE log (
  revision  INTEGER PRIMARY KEY,
  resource  TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name      TEXT NOT NULL,
  kind      TEXT NOT NULL,
  body      TEXT NOT NULL,
  was       INTEGER,
  before    TEXT
);
CREATE INDEX log_by_resource ON log (resource, revision);
ALTER TABLE revision ADD COLUMN floor INTEGER NOT NULL DEFAULT 1;
UPDATE revision SET floor = current;
-- Labels (KEY=VALUE) and the fields that lists are often narrowed by (.FIELD=VALUE).
CREATE TABLE facets (
  resource  TEXT NOT NULL,
  facet     TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name      TEXT NOT NULL,
  PRIMARY KEY (resource, facet, namespace, name)
) WITHOUT ROWID;
INSERT INTO facets
  SELECT resource, label.key || '=' || label.value, namespace, name
  FROM objects, json_each(body, '$.metadata.labels') AS label;
INSERT INTO facets
  SELECT resource, '.spec.nodeName=' || (body ->> '$.spec.nodeName'), namespace, name
  FROM objects WHERE resource = 'pods' AND body ->> '$.spec.nodeName' <> '';
INSERT INTO facets
  SELECT resource, '.involvedObject.uid=' || (body ->> '$.involvedObject.uid'), namespace, name
  FROM objects WHERE resource = 'events' AND body ->> '$.involvedObject.uid' <> '';
