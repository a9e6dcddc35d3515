-- Deliveries that were sent now or never, and wait for their device's answer.
CREATE INDEX deliveries_unanswered ON deliveries (message) WHERE due = 2;
