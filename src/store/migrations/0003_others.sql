-- What an agent knows of others is a document beside that of what it is.

INSERT INTO ledger (name, body, updated_at)
SELECT 'others',
       -- A patch leaves out what is null: a part that a document did not have yet. Within arrays it leaves everything, and the
       -- parts are arrays, or an object of one.
       json_patch('{}', json_object('members', json_extract(body, '$.members'),
                                    'guests', json_extract(body, '$.guests'),
                                    'topology', json_extract(body, '$.topology'))),
       updated_at
FROM ledger WHERE name = 'agent';

UPDATE ledger SET body = json_remove(body, '$.members', '$.guests', '$.topology') WHERE name = 'agent';
