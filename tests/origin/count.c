/*
 * Counters of all threads together, without an order among them: each is right, a set of them is not one moment.
 */
#include "tests/origin/count.h"

void count_enter(atomic_llong *now, atomic_llong *max)
{
    long long n = atomic_fetch_add_explicit(now, 1, memory_order_relaxed) + 1;
    long long seen = atomic_load_explicit(max, memory_order_relaxed);
    while (n > seen && !atomic_compare_exchange_weak_explicit(max, &seen, n, memory_order_relaxed,
                                                              memory_order_relaxed))
        ;
}

void count_leave(atomic_llong *now)
{
    atomic_fetch_sub_explicit(now, 1, memory_order_relaxed);
}

void counts_reset(struct counts *c)
{
#define X(name) atomic_store_explicit(&c->name, 0, memory_order_relaxed);
    COUNTS(X)
#undef X
    atomic_store(&c->requests, 0);
    for (int i = 0; i < OP_COUNT; i++)
        atomic_store(&c->by_op[i], 0);
    atomic_store(&c->open_max, atomic_load(&c->open_now));
    atomic_store(&c->active_max, atomic_load(&c->active_now));
}

json_t *counts_json(struct counts *c)
{
    json_t *o = json_object(), *ops = json_object();
    if (!o || !ops) {
        json_decref(o);
        json_decref(ops);
        return NULL;
    }
    json_object_set_new(o, "requests", json_integer((json_int_t)atomic_load(&c->requests)));
    for (int i = 0; i < OP_COUNT; i++) {
        json_int_t n = (json_int_t)atomic_load(&c->by_op[i]);
        if (n)
            json_object_set_new(ops, op_name((enum op)i), json_integer(n));
    }
    json_object_set_new(o, "operations", ops);
#define X(name) json_object_set_new(o, #name, json_integer((json_int_t)atomic_load(&c->name)));
    COUNTS(X)
#undef X
    json_object_set_new(o, "connections_now", json_integer(atomic_load(&c->open_now)));
    json_object_set_new(o, "connections_max", json_integer(atomic_load(&c->open_max)));
    json_object_set_new(o, "concurrent_now", json_integer(atomic_load(&c->active_now)));
    json_object_set_new(o, "concurrent_max", json_integer(atomic_load(&c->active_max)));
    return o;
}
