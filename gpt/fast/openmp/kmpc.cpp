/* Clang's OpenMP calls (__kmpc_*) in terms of GCC's (GOMP_*), which PyTorch's libgomp has.

   So code that clang compiled shares PyTorch's threads; a second OpenMP library would start its
   own, and both would wait for each other. Clang's calls are described in LLVM's OpenMP runtime
   reference, GCC's in libgomp's manual. */
#include <cstdarg>
#include <cstdint>
#include "omp.h"

extern "C" {
void GOMP_parallel(void (*)(void *), void *, unsigned, unsigned);
void GOMP_barrier(void);
bool GOMP_single_start(void);

enum { MOST = 128 };  /* variables that a parallel region shares */

#define EIGHT(v, i) v[i], v[i + 1], v[i + 2], v[i + 3], v[i + 4], v[i + 5], v[i + 6], v[i + 7]
#define EACH(v) \
    EIGHT(v, 0), EIGHT(v, 8), EIGHT(v, 16), EIGHT(v, 24), EIGHT(v, 32), EIGHT(v, 40), \
    EIGHT(v, 48), EIGHT(v, 56), EIGHT(v, 64), EIGHT(v, 72), EIGHT(v, 80), EIGHT(v, 88), \
    EIGHT(v, 96), EIGHT(v, 104), EIGHT(v, 112), EIGHT(v, 120)

typedef void (*Region)(int *, int *, ...);
struct Call { Region region; void *shared[MOST]; };
static thread_local unsigned wanted;  /* threads of the next region; 0: as many as usual */

static void run(void *data) {
    Call *call = static_cast<Call *>(data);
    int thread = omp_get_thread_num(), bound = 0;
    /* A region takes its variables as pointers and ignores those after its last. */
    call->region(&thread, &bound, EACH(call->shared));
}

int __kmpc_global_thread_num(void *where) { return omp_get_thread_num(); }

void __kmpc_push_num_threads(void *where, int thread, int n) { wanted = n; }

void __kmpc_fork_call(void *where, int n, Region region, ...) {
    Call call = {region, {}};
    va_list arguments;
    if (n > MOST) __builtin_trap();
    va_start(arguments, region);
    for (int i = 0; i < n; i++) call.shared[i] = va_arg(arguments, void *);
    va_end(arguments);
    unsigned threads = wanted;
    wanted = 0;
    GOMP_parallel(run, &call, threads, 0);
}

/* The iterations lower … upper of this thread, in equal parts or in chunks dealt in turn. */
#define STATIC_INIT(name, T, U) \
    void name(void *where, int thread, int schedule, int *last, T *lower, T *upper, T *stride, \
              T step, T chunk) { \
        U n = omp_get_num_threads(), me = omp_get_thread_num(); \
        U count = *upper < *lower ? 0 : (U)(*upper - *lower) / (U)step + 1; \
        if (schedule == 33) { /* chunks */ \
            U size = chunk < 1 ? 1 : (U)chunk; \
            *last = count > 0 && (count - 1) / size % n == me; \
            *lower += (T)(me * size) * step; \
            *upper = *lower + (T)(size - 1) * step; \
            *stride = (T)(n * size) * step; \
        } else { \
            U part = count / n, more = count % n; \
            U first = me * part + (me < more ? me : more), mine = part + (me < more); \
            *last = mine > 0 && first + mine == count; \
            *stride = (T)count * step; \
            *lower += (T)first * step; \
            *upper = mine ? *lower + (T)(mine - 1) * step : *lower - step; \
        } \
    }
STATIC_INIT(__kmpc_for_static_init_4, int32_t, uint32_t)
STATIC_INIT(__kmpc_for_static_init_4u, uint32_t, uint32_t)
STATIC_INIT(__kmpc_for_static_init_8, int64_t, uint64_t)
STATIC_INIT(__kmpc_for_static_init_8u, uint64_t, uint64_t)

void __kmpc_for_static_fini(void *where, int thread) {}

void __kmpc_barrier(void *where, int thread) { GOMP_barrier(); }

int __kmpc_single(void *where, int thread) { return GOMP_single_start(); }

void __kmpc_end_single(void *where, int thread) {}

void __kmpc_serialized_parallel(void *where, int thread) {}

void __kmpc_end_serialized_parallel(void *where, int thread) {}
}
