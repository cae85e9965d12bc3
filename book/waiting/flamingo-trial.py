import sys, time, torch
from mmlearn.both_modalities.flamingo_training import *
from mmlearn.both_modalities.flamingo import parameter_groups, interleaved_loss
from mmlearn.both_modalities.language_model import load_lm, all_examples
from mmlearn.both_modalities.interleaved import *
from mmlearn.data.pairs import scene_pairs, class_pictures
t=time.time()
lm=load_lm("data/checkpoints/scene-lm.safetensors"); v=scene_encoder("resnet")
train=scene_pairs(600); things=class_pictures(400,"train"); test=scene_pairs(60,"val")
F=[encode_pictures(v,d.images) for d in (train,things,test)]
print("data",time.time()-t, flush=True)
of=lm.tokeniser; ex=all_examples(train); look=look_at_features(F[2])
def run(name, steps=250, lr=1e-3, eps=1e-8, answers=True, gate=1.0, res=1.0, centre=True, batch=24, binding=16, bound=True):
    m=new_flamingo(mini_config(lm.model,512),lm.model,features=F[0] if centre else None)
    pages=PageBatches(ex,of,look_at_features(F[0]),batch,most=4,answers_only=answers)
    binds=(BoundBatches if bound else BindingBatches)(things,of,look_at_features(F[1]),binding)
    ad=m.adapter
    gs=[p for n,p in ad.named_parameters() if "gate_" in n]; rs=list(ad.resampler.parameters())
    ids={id(p) for p in gs+rs}; rest=[p for p in ad.parameters() if id(p) not in ids]
    opt=torch.optim.AdamW([{"params":gs,"scale":gate,"weight_decay":0.0},{"params":rs,"scale":res,"weight_decay":0.0},{"params":rest,"scale":1.0,"weight_decay":0.1}],lr=lr,eps=eps,fused=True)
    m.train(); t=time.time(); P=[];B=[]
    for s in range(steps):
        for g in opt.param_groups: g["lr"]=lr*min(1,(s+1)/50)*g["scale"]
        ls=[interleaved_loss(m(x.tokens,features=x.pictures,media=x.media),x.tokens,x.scored) for x in (pages[s],binds[s])]
        sum(ls).backward(); torch.nn.utils.clip_grad_norm_(ad.parameters(),1.0); opt.step(); opt.zero_grad()
        P.append(float(ls[0])); B.append(float(ls[1]))
        if s%50==49:
            c=caption_losses(m,test,of,look)
            with torch.no_grad(): vis=m.see(features=F[2][:,None])[:,0]
            print(name,s+1,"pages",round(sum(P[-50:])/50,3),"bind",round(sum(B[-50:])/50,3),"gate",[round(float(x),3) for x in ad.gates().flatten()],"own",round(float(c["own"].mean()),3),"other",round(float(c["other"].mean()),3),"var",round(float(vis.var(0).mean()),4),round(time.time()-t),flush=True)
for spec in sys.argv[1:]:
    run(spec, **eval("dict("+spec+")"))
