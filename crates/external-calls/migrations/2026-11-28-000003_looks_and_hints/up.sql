-- Looks: some answers are no outcome yet, and sending again would not bring one. Then the system outside is only asked.
-- Hints: a webhook makes the resolver look at once, and never ends a lease.
ALTER TABLE external_calls
    -- The id of the object that the call made outside, once an answer named it. From then on the call is never sent again.
    ADD COLUMN outside_id varchar(255),
    -- The system outside has stored an error under the key, so the call is only looked up while the key lives.
    ADD COLUMN only_look boolean NOT NULL DEFAULT false,
    -- How many of the attempts do not count towards parking.
    ADD COLUMN looks integer NOT NULL DEFAULT 0,
    -- A holder works until `next_attempt_at`. False: the lease was given back, and `next_attempt_at` ends a pause.
    ADD COLUMN leased boolean NOT NULL DEFAULT true,
    -- A hint came while a holder worked. The call is due at once when the holder gives it back.
    ADD COLUMN hinted boolean NOT NULL DEFAULT false;

ALTER TABLE external_calls
    ADD CONSTRAINT external_calls_looks_are_attempts CHECK (looks >= 0 AND looks <= attempts) NOT VALID;
