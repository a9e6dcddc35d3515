-- callbacks: those that wait at a receiver, and those that were given up there, in order of their
-- events: the first for kinds whose order matters, the second for an operator who asks again. Those
-- that were answered are removed by their age.
CREATE INDEX callbacks_waiting ON callbacks (receiver, position) WHERE outcome = 1;
CREATE INDEX callbacks_given_up ON callbacks (receiver, position) WHERE outcome = 2;
CREATE INDEX callbacks_answered ON callbacks (receiver, at) WHERE outcome = 0;
